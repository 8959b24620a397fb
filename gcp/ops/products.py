"""Batched matrix products whose factors are rounded on the way in, for iterations that can bear it.

A tensor core multiplies float32 several times faster if the factors have 10 bits (`tf32`) or 7 (`bf16`) behind the
leading one; sums stay in float32. On the CPU the rounding is the same and nothing is gained: it shows there what the
option costs in accuracy. float64 is never rounded.
"""

import torch
from torch import Tensor
from torch.library import custom_op

PRODUCTS = ("full", "tf32", "bf16")


def product(A: Tensor, B: Tensor, kind: str = "full") -> Tensor:
    """A B for batches (B, n, k) and (B, k, m), with factors rounded as `kind` says."""
    if kind == "full" or A.dtype != torch.float32:
        return A @ B
    if A.device.type == "cuda":
        if kind == "tf32":
            return tf32_product(A, B)
        return torch.bmm(A.bfloat16(), B.bfloat16(), out_dtype=torch.float32)
    return rounded(A, kind) @ rounded(B, kind)


def product_plus(C: Tensor, A: Tensor, B: Tensor, beta: float, alpha: float, kind: str = "full") -> Tensor:
    """beta C + alpha A B."""
    if kind == "full" or A.dtype != torch.float32:
        return torch.baddbmm(C, A, B, beta=beta, alpha=alpha)
    return torch.add(beta * C, product(A, B, kind), alpha=alpha)


def rounded(A: Tensor, kind: str) -> Tensor:
    """Float32 to the nearest number of the format, ties to even."""
    if kind == "bf16":
        return A.bfloat16().float()
    bits = A.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & -0x2000).view(torch.float32)


@custom_op("gcp::tf32_product", mutates_args=())
def tf32_product(A: Tensor, B: Tensor) -> Tensor:
    """A B by tensor cores in TF32, whatever the process-wide setting is; that is put back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        return torch.bmm(A, B)
    finally:
        torch.set_float32_matmul_precision(before)


@tf32_product.register_fake
def _(A: Tensor, B: Tensor) -> Tensor:
    return A.new_empty(A.shape[0], A.shape[1], B.shape[2])
