"""Small operations on batches of square matrices (B, n, n)."""

import torch
from torch import Tensor


def trace(A: Tensor) -> Tensor:
    """Traces (B,)."""
    return A.diagonal(dim1=1, dim2=2).sum(1)


def sym(G: Tensor) -> Tensor:
    """(G + G^T) / 2."""
    return (G + G.mT) / 2


def scaled(X: Tensor, factor: Tensor) -> Tensor:
    """Each matrix of a batch (B, m, n) times its factor (B,)."""
    return X * factor[:, None, None]


def add_identity_(A: Tensor, scale: Tensor | float) -> Tensor:
    """A + scale I in place, for a scale per matrix (B,) or one number."""
    scale = scale[:, None] if isinstance(scale, Tensor) else scale
    if torch.compiler.is_exporting():  # programs elsewhere have no writing into a part of a tensor
        return A + torch.diag_embed((A.new_ones(A.shape[1]) * scale).expand(A.shape[:2]))
    A.diagonal(dim1=1, dim2=2).add_(scale)
    return A


def inverse_or_zero(x: Tensor) -> Tensor:
    """1 / x where x > 0, else 0."""
    positive = x > 0
    return torch.where(positive, x, 1).reciprocal() * positive
