r"""Iterative solvers with the gradient of the exact root at their own output.

The derivative of the root solves Q X + X Q = G, dL/dP = X. In normalised quantities (A = P/nu, Y its root,
Xn = Xc/sqrt(nu)), and with Z the inverse root:

    channel:  Y X + X Y = G,                          dL/dP = X / sqrt(nu)
    sample:   Y X + X Y = Z (Xn^T G Xn / M) Z,        dL/dXc = (2/M) (G Xn Z - Xn X)

`PolarLyapunov` has Z from its forward, so one Newton step of the sign iteration, with alpha = sqrt(prod a),
brings the spectrum into [m, 1] for resolved and null eigenvalues alike, and the rest is a few products.
The approximants MPA and MTP are bounded below by phi(0) and need no inverse root; on the sample side their root
is phi(0) I + Xn psi Xn^T / M, and X Xn follows from w = Xn^T X Xn / M, which solves F w + w F = Xn^T G Xn / M.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.ops.covariance import gram
from gcp.ops.lyapunov import solve
from gcp.ops.matrix import add_identity_, inverse_or_zero, scaled, sym
from gcp.ops.polar_express import normalise, null_inverse_root, roots
from gcp.ops.products import product
from gcp.solvers.approximant import Approximant
from gcp.solvers.polar_express import PolarExpress
from gcp.sqrtm.iterations import Iterations, deflate, gram_side_root, normalised_gram
from gcp.sqrtm.method import Method, Saved, silence

# of the Lyapunov equation: in float32 below what rounding leaves in Y and Z
POLAR_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}


@dataclass(frozen=True)
class PolarLyapunov(Method):
    """Minimax quintics forward, Lyapunov equation backward; saves both roots of the smaller side."""

    solver: PolarExpress

    def settle(self, dtype: torch.dtype, smaller: bool | None) -> tuple[Method, torch.dtype]:
        if smaller is False:  # singular, and float32 does not carry its inverse root
            return self, torch.float64
        if smaller is None or dtype == torch.float64:
            # a matrix alone does not tell whether it is singular; in float64 the derivative of the steps is exact
            return Iterations(self.solver), dtype
        return self, dtype

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        P = silence(P, floor)
        nu, A, A2 = normalise(P)
        Y, Z = roots(A, A2, self.solver.quintics, self.solver.products)
        return scaled(Y, nu.sqrt()), (Y, Z, nu)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        Y, Z, nu = saved
        # N projects on the null space (dead or twin channels), where Z is not the inverse of Y. The equation is
        # solved on the range; between range and null space X = N G Z; null with null meets Xc = 0.
        N = add_identity_(-sym(Y @ Z), 1.0)
        N = N @ N  # rounding leaves 1e-5 of the range in N, its square 1e-10
        NG = N @ G
        NGN = NG @ N
        cross = (NG - NGN) @ Z
        X = self._solve(Y, Z, sym(G - NG - NG.mT + NGN)) + cross + cross.mT
        return scaled(X, inverse_or_zero(nu.sqrt()))

    def sample_root(self, Xc: Tensor, floor: Tensor) -> tuple[Tensor, Saved]:
        nu, A, A2 = normalise(silence(gram(Xc), floor))
        deflated = deflate(A)
        shift = deflated[:, :1, :1] - A[:, :1, :1]
        # (A + s 1 1^T)^2 = A^2 + s^2 M 1 1^T, because A 1 = 0
        squared = A2 + shift * shift * A.shape[1]
        Y, Z = roots(deflated, squared, self.solver.quintics, self.solver.products)
        return gram_side_root(Xc, nu, Z, 0.0), (Y, Z, nu)

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved) -> Tensor:
        Y, Z, nu = saved
        samples = Xc.shape[2]
        Xn = scaled(Xc, inverse_or_zero(nu.sqrt()))
        GXZ = (G @ Xn) @ Z
        X = self._solve(Y, Z, Z @ (Xn.mT @ GXZ / samples))
        return (2 / samples) * torch.baddbmm(GXZ, Xn, X, alpha=-1)

    def _solve(self, Y: Tensor, Z: Tensor, C: Tensor) -> Tensor:
        alpha = null_inverse_root(self.solver.quintics) ** 0.5
        h = (alpha + 1 / alpha) / 2
        A = alpha / (2 * h) * Y + 1 / (2 * h * alpha) * Z
        products = self.solver.products
        ZCZ = product(product(Z, C, products), Z, products)
        C = C / (2 * h) + ZCZ / (2 * h * alpha * alpha)
        return alpha * solve(A, C, 1 / h, POLAR_TOLERANCE[A.dtype], products)


@dataclass(frozen=True)
class ApproximantLyapunov(Method):
    """MPA or MTP forward, Lyapunov equation of their own output backward."""

    solver: Approximant

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        P = silence(P, floor)
        nu = self.solver.norm(P)
        F = sym(self.solver.phi(scaled(P, inverse_or_zero(nu))))
        return scaled(F, nu.sqrt()), (F, nu)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        F, nu = saved
        return scaled(self._solve(F, G), inverse_or_zero(nu.sqrt()))

    def sample_root(self, Xc: Tensor, floor: Tensor) -> tuple[Tensor, Saved]:
        nu, _, A = normalised_gram(Xc, floor, self.solver)
        psi = sym(self.solver.psi(A))
        return gram_side_root(Xc, nu, psi, self.solver.null_value), (psi, nu)

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved) -> Tensor:
        psi, nu = saved
        samples, null = Xc.shape[2], self.solver.null_value
        Xn = scaled(Xc, inverse_or_zero(nu.sqrt()))
        F = add_identity_(sym(deflate(gram(Xn)) @ psi), null)
        GX = G @ Xn
        w = self._solve(F, Xn.mT @ GX / samples)
        right = GX - Xn @ (psi @ w)
        return (2 / samples) * torch.linalg.solve(add_identity_(F, null), right, left=False)

    def _solve(self, F: Tensor, C: Tensor) -> Tensor:
        return solve(F, C, self.solver.null_value, 4 * torch.finfo(F.dtype).eps)
