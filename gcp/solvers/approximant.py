"""Shared by MPA and MTP: Frobenius norm, and the choice of the backward.

phi(0) is not 0 for either, so a null eigenvalue becomes phi(0) sqrt |P|_F. `lyapunov` is the gradient of the
exact root at the solver's own output, as published (solved here to 1e-6, which eight published steps do not
reach on a wide spectrum); it differs from the derivative of the solver's own forward by 1-23 %.
`iterations` is that derivative.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.ops.matrix import inverse_or_zero, trace
from gcp.options import option
from gcp.solvers.base import Solver


@dataclass(frozen=True)
class Approximant(Solver):
    """A rational or polynomial approximant of the root at A = P / |P|_F."""

    backward: str = option(
        "lyapunov", "gradient of the exact root, or of the iterations", choices=("lyapunov", "iterations")
    )

    def norm(self, P: Tensor) -> Tensor:
        scale = trace(P)  # the square of a small matrix underflows
        return scale * torch.linalg.matrix_norm(P * inverse_or_zero(scale)[:, None, None])

    def norm_gradient(self, A: Tensor) -> Tensor:
        return A
