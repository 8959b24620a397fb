"""`mpa`: matrix Pade approximant [5/5] of the square root at P / |P|_F; phi(0) = 1/11.

Song, Sebe and Wang, ICLR 2022 (arXiv:2201.08663).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.ops.matrix_polynomial import Coefficients, horner, horner_tangent, pade_root
from gcp.solvers.approximant import Approximant
from gcp.solvers.base import SOLVERS

NUMERATOR, DENOMINATOR = pade_root(5)
NULL_VALUE = NUMERATOR[0] / DENOMINATOR[0]
# (p - phi(0) q) / l, one degree less
QUOTIENT = tuple(a - NULL_VALUE * b for a, b in zip(NUMERATOR[1:], DENOMINATOR[1:], strict=True))


@SOLVERS.register("mpa", summary="matrix Pade approximant [5/5] at P / |P|_F", paper="Song et al., ICLR 2022")
@dataclass(frozen=True)
class MPA(Approximant):
    """phi = p / q with positive coefficients in A."""

    @property
    def null_value(self) -> float:
        return NULL_VALUE

    def phi(self, A: Tensor) -> Tensor:
        return self._divide(A, NUMERATOR)

    def psi(self, A: Tensor) -> Tensor:
        return self._divide(A, QUOTIENT)

    def phi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        return self._divide_tangent(A, E, NUMERATOR)

    def psi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        return self._divide_tangent(A, E, QUOTIENT)

    def _divide(self, A: Tensor, numerator: Coefficients) -> Tensor:
        return torch.linalg.solve(horner(A, DENOMINATOR), horner(A, numerator))

    def _divide_tangent(self, A: Tensor, E: Tensor, numerator: Coefficients) -> tuple[Tensor, Tensor]:
        p, dp = horner_tangent(A, E, numerator)
        q, dq = horner_tangent(A, E, DENOMINATOR)
        factors, pivots = torch.linalg.lu_factor(q)
        value = torch.linalg.lu_solve(factors, pivots, p)
        return value, torch.linalg.lu_solve(factors, pivots, dp - dq @ value)
