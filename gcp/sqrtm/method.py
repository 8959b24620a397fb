"""A method: root and gradient on either side, as plain functions of tensors.

`function.py` wraps a method into autograd. On the channel side it sees P (B, d, d), on the sample side the
centred samples Xc (B, d, M); `floor` (B,) is the total variance that counts as zero. What a forward saves
is all that its backward gets, and no backward decomposes again.
"""

from typing import Protocol

import torch
from torch import Tensor

from gcp.ops.matrix import trace

Saved = tuple[Tensor, ...]


class Method(Protocol):
    """A forward solver with its backward."""

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        """Q (B, d, d) and what the gradient needs."""
        ...

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        """dL/dP (B, d, d) for a symmetric upstream gradient G (B, d, d)."""
        ...

    def sample_root(self, Xc: Tensor, floor: Tensor) -> tuple[Tensor, Saved]:
        """Q (B, d, d) by way of the Gram matrix, and what the gradient needs besides Xc."""
        ...

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved) -> Tensor:
        """dL/dXc (B, d, M) for a symmetric upstream gradient G (B, d, d)."""
        ...


def silence(P: Tensor, floor: Tensor | None) -> Tensor:
    """Zero matrices whose trace is within the rounding of the mean; the iterations cannot tell it from signal."""
    if floor is None:
        return P
    return torch.where((trace(P) > floor)[:, None, None], P, 0)
