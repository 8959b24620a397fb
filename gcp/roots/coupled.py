r"""Coupled iterations that converge to the exact root, with the gradient of the exact root at their output.

An iteration gives Y ~ A^(1/2) and Z ~ A^(-1/2) at once, A = P/nu. In float32 the derivative of its steps loses digits
that the root itself has (4e-2 of the gradient at condition number 1e4), the Lyapunov equation Q X + X Q = G at its
output does not. In normalised quantities, with Xn = Xc/sqrt(nu),

    channel:  Y X + X Y = G,                          dL/dP = X / sqrt(nu)
    sample:   Y X + X Y = Z (Xn^T G Xn / M) Z,        dL/dXc = (2/M) (G Xn Z - Xn X)
    inverse:  Y X + X Y = -Z G Z,                     dL/dP = X / nu^(3/2),     of F = P^(-1/2) = Z / sqrt(nu)

Z is there from the forward, so one Newton step of the sign iteration, with alpha = sqrt(Z at 0), brings the spectrum
into [m, 1] for resolved and null eigenvalues alike, and the rest is a few products (`gcp.ops.lyapunov`).

In float64 the derivative of the steps is taken (`Iterations`), which passes `gradcheck` whatever their number, unless Z
is so large on a null space that it would be noise.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gcp.ops.covariance import gram, zero_noise
from gcp.ops.lyapunov import solve
from gcp.ops.numerics import add_identity_, inverse_or_zero, scaled, sym
from gcp.ops.polar_express import MARGIN, normalise
from gcp.ops.products import product
from gcp.roots.iterations import InverseIterations, Iteration, Iterations, deflate, gram_side_root
from gcp.roots.root import Method, Saved

# of the Lyapunov equation: in float32 below what rounding leaves in Y and Z
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}


class CoupledIteration(Iteration):
    """Y and Z together, from A = P / nu with nu = 1.01 |P^2|_F^(1/2) >= l_max.

    `products`: how the products of the backward are rounded.
    """

    products: str = "full"

    @property
    def null_inverse_root(self) -> float:
        """What Z is on the null space."""
        raise NotImplementedError

    @property
    def moderate(self) -> bool:
        """Whether Z stays below 1000 on a null space, as float32 and, in float64, the derivative of the steps need."""
        return True

    def roots(self, A: Tensor, A2: Tensor) -> tuple[Tensor, Tensor]:
        """Y and Z, both (B, n, n), of A with spectrum in [0, 1] and its square."""
        raise NotImplementedError

    def roots_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Y, Z and their derivatives in the symmetric direction E, all (B, n, n)."""
        raise NotImplementedError

    def norm(self, P: Tensor) -> Tensor:
        return normalise(P)[0]

    def norm_gradient(self, A: Tensor) -> Tensor:
        # nu = margin (tr P^4)^(1/4), so d nu / d P = margin^4 P^3 / nu^3
        return MARGIN**4 * (A @ A @ A)

    def phi(self, A: Tensor) -> Tensor:
        return self.roots(A, A @ A)[0]

    def psi(self, A: Tensor) -> Tensor:
        return self.roots(A, A @ A)[1]

    def phi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        Y, _, dY, _ = self.roots_tangent(A, E)
        return Y, dY

    def psi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        _, Z, _, dZ = self.roots_tangent(A, E)
        return Z, dZ


@dataclass(frozen=True)
class CoupledLyapunov(Method):
    """A coupled iteration forward, the Lyapunov equation backward; saves both roots of the smaller side."""

    of_steps: ClassVar[type[Iterations]] = Iterations  # the same with the derivative of its steps
    iteration: CoupledIteration

    def settle(self, dtype: torch.dtype, smaller: bool | None) -> tuple[Method, torch.dtype]:
        if smaller is False:  # singular, and float32 does not carry its inverse root
            return self, torch.float64
        if not self.iteration.moderate:
            return self, torch.float64
        return (self.of_steps(self.iteration, centred=self.centred) if dtype == torch.float64 else self), dtype

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        nu, A, A2 = normalise(zero_noise(P, floor))
        Y, Z = self._roots(A, A2)
        return scaled(Y, nu.sqrt()), (Y, Z, nu)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        Y, Z, nu = saved
        # N projects on the null space (dead or twin channels), where Z is not the inverse of Y. The equation is
        # solved on the range; between range and null space X = N G Z; null with null meets Xc = 0.
        N = add_identity_(-sym(Y @ Z), 1.0)
        N2 = N @ N
        N = 3 * N2 - 2 * N2 @ N  # rounding leaves 1e-5 of the range in N, and takes 1e-4 of the null space from it
        NG = N @ G
        NGN = NG @ N
        cross = (NG - NGN) @ Z
        X = self._solve(Y, Z, sym(G - NG - NG.mT + NGN)) + cross + cross.mT
        return scaled(X, inverse_or_zero(nu.sqrt()))

    def sample_root(self, Xc: Tensor, floor: Tensor) -> tuple[Tensor, Saved]:
        nu, A, A2 = normalise(zero_noise(gram(Xc), floor))
        if self.centred:
            deflated = deflate(A)
            shift = deflated[:, :1, :1] - A[:, :1, :1]
            # (A + s 1 1^T)^2 = A^2 + s^2 M 1 1^T, because A 1 = 0
            A, A2 = deflated, A2 + shift * shift * A.shape[1]
        Y, Z = self._roots(A, A2)
        return gram_side_root(Xc, nu, Z, 0.0), (Y, Z, nu)

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved) -> Tensor:
        Y, Z, nu = saved
        samples = Xc.shape[2]
        Xn = scaled(Xc, inverse_or_zero(nu.sqrt()))
        GXZ = (G @ Xn) @ Z
        X = self._solve(Y, Z, Z @ (Xn.mT @ GXZ / samples))
        return (2 / samples) * torch.baddbmm(GXZ, Xn, X, alpha=-1)

    def _roots(self, A: Tensor, A2: Tensor) -> tuple[Tensor, Tensor]:
        """Y and Z; in float32 again in float64 for matrices that lost a quarter of their rank.

        Z is some hundreds on a null space, and its rounding there reaches the rest of Z: 2e-3 of the gradient, against
        2e-4 if only the result is rounded. Looked for on the CPU in eager mode only; elsewhere it would stall.
        """
        Y, Z = self.iteration.roots(A, A2)
        unseen = A.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing()
        if unseen or A.dtype != torch.float32 or self.iteration.products != "full":
            return Y, Z
        dead = (A.diagonal(dim1=1, dim2=2) == 0).sum(1)  # rows of zeros share no digit with others
        lost = A.shape[1] - dead - (Y * Z).sum((1, 2)) > A.shape[1] / 4  # the trace of Y Z is the rank resolved
        if bool(lost.any()):
            A = A[lost].double()
            Y[lost], Z[lost] = (root.to(Y.dtype) for root in self.iteration.roots(A, A @ A))
        return Y, Z

    def _solve(self, Y: Tensor, Z: Tensor, C: Tensor) -> Tensor:
        alpha = self.iteration.null_inverse_root**0.5
        h = (alpha + 1 / alpha) / 2
        A = alpha / (2 * h) * Y + 1 / (2 * h * alpha) * Z
        products = self.iteration.products
        ZCZ = product(product(Z, C, products), Z, products)
        C = C / (2 * h) + ZCZ / (2 * h * alpha * alpha)
        return alpha * solve(A, C, 1 / h, TOLERANCE[A.dtype], products)


@dataclass(frozen=True)
class InverseLyapunov(CoupledLyapunov):
    """The inverse root F = P^(-1/2) of a positive definite matrix; the channel side only."""

    of_steps = InverseIterations

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        nu, A, A2 = normalise(P)
        Y, Z = self.iteration.roots(A, A2)
        return scaled(Z, inverse_or_zero(nu.sqrt())), (Y, Z, nu)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        Y, Z, nu = saved
        X = self._solve(Y, Z, -sym(Z @ G @ Z))
        return scaled(X, inverse_or_zero(nu * nu.sqrt()))
