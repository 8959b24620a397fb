"""The upper triangle of a symmetric matrix as a vector: row-major, diagonal included, no sqrt(2).

The order is that of `torch.triu_indices(d, d)`; the published heads (2019 and later) use the same.
"""

import torch
from torch import Tensor


def triangle_size(d: int) -> int:
    """D (d + 1) / 2."""
    return d * (d + 1) // 2


def _flat_index(d: int, device: torch.device) -> Tensor:
    rows, columns = torch.triu_indices(d, d, device=device)
    return rows * d + columns


class _Pack(torch.autograd.Function):
    """Gather forward, scatter backward: no index accumulation, which is slow and not deterministic on CUDA."""

    @staticmethod
    def forward(ctx, Q: Tensor) -> Tensor:
        ctx.d = Q.shape[1]
        return Q.flatten(1).index_select(1, _flat_index(ctx.d, Q.device))

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        G = g.new_zeros(g.shape[0], ctx.d * ctx.d)
        G.index_copy_(1, _flat_index(ctx.d, g.device), g)
        return G.view(-1, ctx.d, ctx.d)


def pack(Q: Tensor) -> Tensor:
    """Matrices (B, d, d) -> their upper triangles (B, d(d+1)/2)."""
    return _Pack.apply(Q)


def unpack(triangle: Tensor) -> Tensor:
    """Upper triangles (B, d(d+1)/2) -> symmetric matrices (B, d, d)."""
    d = int((2 * triangle.shape[1]) ** 0.5)
    Q = triangle.new_zeros(triangle.shape[0], d * d)
    index = _flat_index(d, triangle.device)
    Q[:, index] = triangle
    Q[:, index % d * d + index // d] = triangle
    return Q.view(-1, d, d)
