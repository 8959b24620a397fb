r"""`halley`: coupled Halley steps on P / n, n >= l_max, with the gradient of the exact root.

    R = Z Y,  T = (3 I + R)(I + 3 R)^-1 = I/3 + (8/3)(I + 3 R)^-1,  Y <- Y T,  Z <- T Z,     from Y = A, Z = I

Each step triples the inverse hyperbolic tangent of sqrt(l), so after k of them

    phi(l) = sqrt(l) tanh(3^k artanh sqrt(l)),     Z at 0 = 3^k:

an eigenvalue above 70 / 9^k of the largest is exact to 1e-7. Nine steps hold a condition number of 5e6, ten of 5e7, and
every smaller eigenvalue is damped. Gu, Qiao, Li and Li, NeurIPS 2025 (Halley-SVD), brought Halley's iteration
x (x^2 + 3 a) / (3 x^2 + a) to covariance pooling; this is it in the coupled form, which does not amplify
rounding (Higham, Functions of Matrices, 2008, section 6.3). I + 3 R is factored by Cholesky.

Rounding puts null eigenvalues at 1e-7 of the largest, on either side of zero, and a step diverges at R = -1/3. So
float32 carries a gain 3^k of 1000 at most, six steps; more are computed in float64 whatever the precision asked for.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.ops.numerics import add_identity_, sym
from gcp.options import option
from gcp.solvers.base import SOLVERS, CoupledSolver

LARGEST_GAIN = 1000.0  # in float32: 1000^2 eps is 0.1, away from 1/3


@SOLVERS.register("halley", summary="Halley steps on P / n, by Cholesky", paper="Gu et al., NeurIPS 2025")
@dataclass(frozen=True)
class Halley(CoupledSolver):
    """Quartic trace norm, Halley's rational steps."""

    head = "halley"
    iterations: int = option(9, "Halley steps, which each triple the eigenvalues' range", minimum=1, maximum=20)

    @property
    def null_inverse_root(self) -> float:
        return 3.0**self.iterations

    @property
    def moderate(self) -> bool:
        return self.null_inverse_root <= LARGEST_GAIN

    def roots(self, A: Tensor, A2: Tensor) -> tuple[Tensor, Tensor]:
        Z = _step(_inverse(A))
        Y = A @ Z
        for _ in range(self.iterations - 1):
            R = sym(Z @ Y)
            T = _step(_inverse(R))
            Y, Z = Y @ T, T @ Z
        return sym(Y), sym(Z)

    def roots_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        inverse = _inverse(A)
        Z, dZ = _step(inverse), -8 * sym(inverse @ E @ inverse)
        Y, dY = A @ Z, sym(E @ Z + A @ dZ)
        for _ in range(self.iterations - 1):
            R, dR = sym(Z @ Y), sym(dZ @ Y + Z @ dY)
            inverse = _inverse(R)
            T, dT = _step(inverse), -8 * sym(inverse @ dR @ inverse)
            dY, dZ = sym(dY @ T + Y @ dT), sym(dT @ Z + T @ dZ)
            Y, Z = Y @ T, T @ Z
        return sym(Y), sym(Z), dY, dZ


def _inverse(R: Tensor) -> Tensor:
    """(I + 3 R)^-1 of symmetric R (B, n, n)."""
    return torch.cholesky_inverse(torch.linalg.cholesky_ex(add_identity_(3 * R, 1.0)).L)


def _step(inverse: Tensor) -> Tensor:
    """T = I/3 + (8/3) (I + 3 R)^-1."""
    return add_identity_((8 / 3) * inverse, 1 / 3)
