"""The upper triangle of symmetric matrices and its adjoint, converted to another dtype on the way.

One kernel each on CUDA, the index operations of `gcp.ops.triangle` elsewhere.
"""

from typing import Any

import torch
from torch import Tensor

from gcp.kernels.launch import REAL_NAMES, launch
from gcp.kernels.operator import on_gpu, register, runs_kernel
from gcp.kernels.source import TRIANGLE_PACK, TRIANGLE_SPREAD, Kernel
from gcp.ops import triangle
from gcp.ops.triangle import select, triangle_size


def pack(Q: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Symmetric matrices (B, d, d) -> their upper triangles (B, d(d+1)/2) in `dtype`, differentiable."""
    dtype = dtype or Q.dtype
    if on_gpu(Q):
        return torch.ops.gcp.triangle_pack(Q, dtype)
    return (triangle.pack(Q) if Q.requires_grad else select(Q)).to(dtype)


def spread(g: Tensor, d: int, dtype: torch.dtype | None = None) -> Tensor:
    """Gradient (B, d(d+1)/2) of a triangle -> the symmetric gradient (B, d, d) of the matrix, in `dtype`."""
    dtype = dtype or g.dtype
    return torch.ops.gcp.triangle_spread(g, d, dtype) if on_gpu(g) else triangle.spread(g.to(dtype), d)


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
        return triangle.spread(g.to(dtype), d)
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
