"""A method: root and gradient on either side, as plain functions of tensors.

`function.py` wraps a method into autograd. On the channel side it sees P (B, d, d), on the sample side the
centred samples Xc (B, d, M); `floor` (B,) is the total variance that counts as zero. What a forward saves
is all that its backward gets, and no backward decomposes again.
"""

import torch
from torch import Tensor

from gcp.ops.matrix import trace

Saved = tuple[Tensor, ...]


class Method:
    """A forward solver with its backward."""

    def settle(self, dtype: torch.dtype, smaller: bool | None) -> "tuple[Method, torch.dtype]":
        """The method and the precision to compute with, asked for `dtype` on the smaller side of a feature map.

        `smaller` is False on the larger side, and None for a matrix without features.
        """
        return self, dtype

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        """Q (B, d, d) and what the gradient needs."""
        raise NotImplementedError

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        """dL/dP (B, d, d), symmetric, for a symmetric upstream gradient G (B, d, d)."""
        raise NotImplementedError

    def sample_root(self, Xc: Tensor, floor: Tensor) -> tuple[Tensor, Saved]:
        """Q (B, d, d) by way of the Gram matrix, and what the gradient needs besides Xc."""
        raise NotImplementedError

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved) -> Tensor:
        """dL/dXc (B, d, M) for a symmetric upstream gradient G (B, d, d)."""
        raise NotImplementedError


def silence(P: Tensor, floor: Tensor | None) -> Tensor:
    """Zero matrices whose trace is within the rounding of the mean; the iterations cannot tell it from signal."""
    if floor is None:
        return P
    return torch.where((trace(P) > floor)[:, None, None], P, 0)
