"""The upper triangle of a symmetric matrix as a vector, and its adjoint: row-major, diagonal included, no sqrt(2).

The order is that of `torch.triu_indices(d, d)`; the published heads (2019 and later) use the same. Both are converted
to another dtype on the way: one kernel each on CUDA, index operations elsewhere.
"""

from typing import Any

import torch
from torch import Tensor

from gcp.kernels.launch import REAL_NAMES, TRIANGLE_PACK, TRIANGLE_SPREAD, Kernel, launch, register, runs_kernel
from gcp.ops.numerics import on_gpu


def pack(Q: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Symmetric matrices (B, d, d) -> their upper triangles (B, d(d+1)/2) in `dtype`, differentiable."""
    dtype = dtype or Q.dtype
    if on_gpu(Q):
        return torch.ops.gcp.triangle_pack(Q, dtype)
    return (_Pack.apply(Q) if Q.requires_grad else select(Q)).to(dtype)


def spread(g: Tensor, d: int, dtype: torch.dtype | None = None) -> Tensor:
    """Gradient (B, d(d+1)/2) of a triangle -> the symmetric gradient (B, d, d) of the matrix, in `dtype`."""
    dtype = dtype or g.dtype
    return torch.ops.gcp.triangle_spread(g, d, dtype) if on_gpu(g) else plain_spread(g.to(dtype), d)


def unpack(triangle: Tensor) -> Tensor:
    """Upper triangles (B, d(d+1)/2) -> symmetric matrices (B, d, d)."""
    d = int((2 * triangle.shape[1]) ** 0.5)
    Q = triangle.new_zeros(triangle.shape[0], d * d)
    index = _flat_index(d, triangle.device)
    Q[:, index] = triangle
    Q[:, index % d * d + index // d] = triangle
    return Q.view(-1, d, d)


# ---- Without a kernel ----


def triangle_size(d: int) -> int:
    """D (d + 1) / 2."""
    return d * (d + 1) // 2


def _flat_index(d: int, device: torch.device) -> Tensor:
    """Place of each entry of the triangle in the flat matrix."""
    rows, columns = torch.triu_indices(d, d, device=device)
    return rows * d + columns


def select(Q: Tensor) -> Tensor:
    """Upper triangles (B, d(d+1)/2) of matrices (B, d, d)."""
    return Q.flatten(1).gather(1, _flat_index(Q.shape[1], Q.device).expand(len(Q), -1))


def plain_spread(g: Tensor, d: int) -> Tensor:
    """Gradient (B, d(d+1)/2) of a triangle -> the symmetric gradient (B, d, d) of the matrix.

    Half of an off-diagonal entry goes to either side. A gather: no index accumulation, which is slow and not
    deterministic on CUDA.
    """
    row = torch.arange(d, device=g.device)
    low, high = torch.minimum(row[:, None], row), torch.maximum(row[:, None], row)
    place = low * d - low * (low - 1) // 2 + high - low
    rows, columns = torch.triu_indices(d, d, device=g.device)
    halves = torch.where(rows == columns, 1.0, 0.5).to(g.dtype)
    return (g * halves).gather(1, place.flatten().expand(len(g), -1)).view(-1, d, d)


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, Q: Tensor) -> Tensor:
        ctx.d = Q.shape[1]
        return select(Q)

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        G = g.new_zeros(g.shape[0], ctx.d * ctx.d)
        G.index_copy_(1, _flat_index(ctx.d, g.device), g)
        return G.view(-1, ctx.d, ctx.d)


# ---- With a kernel ----


def _compiled(kernel: Kernel, x: Tensor, dtype: torch.dtype) -> tuple[str, str] | None:
    """Types of the instantiation for a conversion, None where there is none."""
    types = REAL_NAMES.get(x.dtype, ""), REAL_NAMES.get(dtype, "")
    return types if types in kernel.instances and runs_kernel(x) else None


@register("triangle_pack")
def _pack(Q: Tensor, dtype: torch.dtype) -> Tensor:
    types = _compiled(TRIANGLE_PACK, Q, dtype)
    if types is None:
        return select(Q).to(dtype)
    batch, d = Q.shape[:2]
    packed = Q.new_empty(batch, triangle_size(d), dtype=dtype)
    launch(TRIANGLE_PACK, types, d, batch, (Q.contiguous(), packed, d, batch))
    return packed


@_pack.register_fake
def _(Q: Tensor, dtype: torch.dtype) -> Tensor:
    return Q.new_empty(Q.shape[0], triangle_size(Q.shape[1]), dtype=dtype)


@register("triangle_spread")
def _spread(g: Tensor, d: int, dtype: torch.dtype) -> Tensor:
    types = _compiled(TRIANGLE_SPREAD, g, dtype)
    if types is None:
        return plain_spread(g.to(dtype), d)
    batch = g.shape[0]
    Q = g.new_empty(batch, d, d, dtype=dtype)
    launch(TRIANGLE_SPREAD, types, d, batch, (g.contiguous(), Q, 0.5, d, batch))
    return Q


@_spread.register_fake
def _(g: Tensor, d: int, dtype: torch.dtype) -> Tensor:
    return g.new_empty(g.shape[0], d, d, dtype=dtype)


def _remember(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.dtype, ctx.d = inputs[0].dtype, (inputs[0] if inputs[0].ndim == 3 else output).shape[1]


# each is the adjoint of the other on symmetric matrices
_pack.register_autograd(
    lambda ctx, g: (torch.ops.gcp.triangle_spread(g, ctx.d, ctx.dtype), None), setup_context=_remember
)
_spread.register_autograd(
    lambda ctx, G: (torch.ops.gcp.triangle_pack((G + G.mT) / 2, ctx.dtype), None, None), setup_context=_remember
)
