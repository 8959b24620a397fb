r"""Eigendecomposition of symmetric positive semidefinite matrices, and which eigenvalues are zero.

An eigenvalue counts as zero when it is below the noise of the decomposition, measured at 5 eps l_max and
taken as 16 eps l_max, or below what the rounding of the mean leaves on a constant map (`noise_floor`).
A larger threshold destroys true eigenvalues in float32.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Decomposition = Callable[[Tensor], tuple[Tensor, Tensor]]  # as torch.linalg.eigh


def null_threshold(eigenvalues: Tensor, floor: Tensor | None = None) -> Tensor:
    """Largest value (B, 1) that counts as zero among eigenvalues (B, n); `floor` is (B,) or None."""
    threshold = 16 * torch.finfo(eigenvalues.dtype).eps * eigenvalues.amax(1, keepdim=True)
    return threshold if floor is None else torch.maximum(threshold, floor[:, None])


def eigh(P: Tensor, floor: Tensor | None = None, decompose: Decomposition | None = None) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues (B, n), exactly 0 where they count as zero, and eigenvectors (B, n, n).

    `decompose` is `torch.linalg.eigh` by default.
    """
    eigenvalues, V = (decompose or torch.linalg.eigh)(P)
    null = eigenvalues <= null_threshold(eigenvalues, floor)
    return eigenvalues.masked_fill(null, 0), V
