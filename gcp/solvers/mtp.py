"""`mtp`: matrix Taylor polynomial of degree 10 of the square root at P / |P|_F; phi(0) = 0.176.

Song, Sebe and Wang, ICLR 2022 (arXiv:2201.08663). The published code overwrites its identity matrix, which
puts its output 86 % away from the polynomial; this is the polynomial.
"""

from dataclasses import dataclass

from torch import Tensor

from gcp.ops.matrix import add_identity_
from gcp.ops.matrix_polynomial import horner, horner_tangent, taylor_root
from gcp.solvers.approximant import Approximant
from gcp.solvers.base import SOLVERS

SERIES = taylor_root(10)
# psi in z = 1 - l: (sum_j c_j z^j - sum_j c_j) / (1 - z), whose coefficients are the tail sums of -c
QUOTIENT = tuple(-sum(SERIES[i + 1 :]) for i in range(len(SERIES) - 1))


@SOLVERS.register("mtp", summary="matrix Taylor polynomial of degree 10 at P / |P|_F", paper="Song et al., ICLR 2022")
@dataclass(frozen=True)
class MTP(Approximant):
    """Matrix products only; a polynomial in I - A."""

    @property
    def null_value(self) -> float:
        return sum(SERIES)

    def phi(self, A: Tensor) -> Tensor:
        return horner(add_identity_(-A, 1.0), SERIES)

    def psi(self, A: Tensor) -> Tensor:
        return horner(add_identity_(-A, 1.0), QUOTIENT)

    def phi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        return horner_tangent(add_identity_(-A, 1.0), -E, SERIES)

    def psi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        return horner_tangent(add_identity_(-A, 1.0), -E, QUOTIENT)
