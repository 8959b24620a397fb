r"""Products of batches of matrices: with rounded factors, and polynomials by Horner's scheme.

A tensor core multiplies float32 several times faster if the factors have 10 bits (`tf32`) or 7 (`bf16`) behind the
leading one; sums stay in float32. On the CPU the rounding is the same and nothing is gained: it shows there what the
option costs in accuracy. float64 is never rounded.

Two approximants of the square root are here. Pade [m/m] of sqrt(l) at l = 1, in closed form with n = 2m + 1:
p = sum_i C(n, 2i) l^i,  q = sum_i C(n, 2i+1) l^i;  p(0)/q(0) = 1/n. Taylor of degree k at l = 1, in z = 1 - l:
sqrt(1 - z) = 1 - sum_j |C(1/2, j)| z^j. Both in Song, Sebe and Wang, ICLR 2022 (arXiv:2201.08663).
"""

from math import comb

import torch
from torch import Tensor
from torch.library import custom_op

from gcp.ops.numerics import add_identity_

Coefficients = tuple[float, ...]
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


def pade_root(m: int) -> tuple[Coefficients, Coefficients]:
    """Numerator and denominator in l, lowest degree first."""
    n = 2 * m + 1
    p = tuple(float(comb(n, 2 * i)) for i in range(m + 1))
    return p, tuple(float(comb(n, 2 * i + 1)) for i in range(m + 1))


def taylor_root(degree: int, exponent: float = 0.5) -> Coefficients:
    """Coefficients of (1 - z)^exponent in z = 1 - l, lowest degree first."""
    series = [1.0]
    for j in range(1, degree + 1):
        series.append(series[-1] * (j - 1 - exponent) / j)
    return tuple(series)


def horner(A: Tensor, coefficients: Coefficients) -> Tensor:
    """sum_i c_i A^i (B, n, n), coefficients lowest degree first, at least two."""
    value = add_identity_(coefficients[-1] * A, coefficients[-2])
    for c in reversed(coefficients[:-2]):
        value = add_identity_(A @ value, c)
    return value


def horner_tangent(A: Tensor, E: Tensor, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
    """The polynomial and its derivative in the symmetric direction E, both (B, n, n)."""
    value, slope = add_identity_(coefficients[-1] * A, coefficients[-2]), coefficients[-1] * E
    for c in reversed(coefficients[:-2]):
        slope = E @ value + A @ slope
        value = add_identity_(A @ value, c)
    return value, slope
