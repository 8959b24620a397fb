"""The upper triangle of a symmetric matrix as a vector: row-major, diagonal included, no sqrt(2).

The order is that of `torch.triu_indices(d, d)`; the published heads (2019 and later) use the same.
"""

import torch
from torch import Tensor


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


def spread(g: Tensor, d: int) -> Tensor:
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


def pack(Q: Tensor) -> Tensor:
    """Matrices (B, d, d) -> their upper triangles (B, d(d+1)/2), differentiable."""
    return _Pack.apply(Q)


def unpack(triangle: Tensor) -> Tensor:
    """Upper triangles (B, d(d+1)/2) -> symmetric matrices (B, d, d)."""
    d = int((2 * triangle.shape[1]) ** 0.5)
    Q = triangle.new_zeros(triangle.shape[0], d * d)
    index = _flat_index(d, triangle.device)
    Q[:, index] = triangle
    Q[:, index % d * d + index // d] = triangle
    return Q.view(-1, d, d)
