"""`polar_express`: minimax quintic steps on P / n, n >= l_max: the accuracy of the SVD by products only.

With (lower, steps) = (5e-3, 6) the uniform error is 2.8e-11 for every eigenvalue >= lower^2 n; float32 leaves
3e-6 in the output and 2e-5 in the gradient at condition number 1e4 (equal samples or twin channels: up to 5e-4
in the gradient, because a null vector that is not known in advance meets an inverse root of 800). Amsel,
Persson, Musco and Gower 2025 (arXiv:2505.16932).

Rounded products (`products`) cost accuracy that the method has: with tf32 1e-3 in the output and 1e-3, 2e-3, 1e-2 in
the gradient at condition number 1e2, 1e3, 1e4; at 1e5 the steps diverge (NaN), since the rounding makes small
eigenvalues negative. With bf16 (lower 0.05, 4 steps) 4e-3 to 2e-2, and 5e-3, 2e-2, 4e-1 in the gradient.

The backward is the gradient of the exact root at the solver's output: it solves Q X + X Q = G, dL/dP = X. In normalised
quantities (A = P/nu, Y its root, Z its inverse root, Xn = Xc/sqrt(nu)):

    channel:  Y X + X Y = G,                          dL/dP = X / sqrt(nu)
    sample:   Y X + X Y = Z (Xn^T G Xn / M) Z,        dL/dXc = (2/M) (G Xn Z - Xn X)

Z is there from the forward, so one Newton step of the sign iteration, with alpha = sqrt(prod a), brings the spectrum
into [m, 1] for resolved and null eigenvalues alike, and the rest is a few products (`gcp.ops.lyapunov`).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gcp.errors import OptionError
from gcp.ops.covariance import gram, zero_noise
from gcp.ops.lyapunov import solve
from gcp.ops.numerics import add_identity_, inverse_or_zero, scaled, sym
from gcp.ops.polar_express import MARGIN, Quintics, normalise, null_inverse_root, roots, roots_tangent, sign_quintics
from gcp.ops.products import PRODUCTS, product
from gcp.options import option
from gcp.roots.iterations import Iterations, deflate, gram_side_root
from gcp.roots.root import Method, Saved
from gcp.solvers.base import ROUNDING, SOLVERS, IterativeSolver, check_fraction

LEAST_BF16 = 0.05  # `lower` above what rounding to 7 bits does to an eigenvalue
# of the Lyapunov equation: in float32 below what rounding leaves in Y and Z
POLAR_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}


@SOLVERS.register(
    "polar_express",
    summary="minimax quintic steps on P / n: SVD accuracy, products only",
    paper="Amsel et al. 2025",
)
@dataclass(frozen=True)
class PolarExpress(IterativeSolver):
    """Quartic trace norm, composed minimax quintics."""

    head = "polar_express"
    lower: float = option(5e-3, "roots of eigenvalues resolved, relative to the largest", minimum=0)
    steps: int = option(6, "quintic steps", minimum=1, maximum=20)
    products: str = option("full", ROUNDING, choices=PRODUCTS)

    if TYPE_CHECKING:  # no field: torch.compile before 2.12 would pass it to the constructor
        quintics: Quintics = field(init=False)

    def __post_init__(self) -> None:
        check_fraction("polar_express", "lower", self.lower)
        if self.products == "bf16" and self.lower < LEAST_BF16:
            raise OptionError(
                f"option products of 'polar_express' is 'bf16' with lower={self.lower!r}: the steps would diverge, "
                "because the rounding makes small eigenvalues negative; "
                f"take lower={LEAST_BF16:g} steps=4, or products='tf32'."
            )
        object.__setattr__(self, "quintics", sign_quintics(self.lower, self.steps)[0])

    def method(self) -> Method:
        return PolarLyapunov(self)

    def norm(self, P: Tensor) -> Tensor:
        return normalise(P)[0]

    def norm_gradient(self, A: Tensor) -> Tensor:
        # nu = margin (tr P^4)^(1/4), so d nu / d P = margin^4 P^3 / nu^3
        return MARGIN**4 * (A @ A @ A)

    def phi(self, A: Tensor) -> Tensor:
        return roots(A, A @ A, self.quintics, self.products)[0]

    def psi(self, A: Tensor) -> Tensor:
        return roots(A, A @ A, self.quintics, self.products)[1]

    def phi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        Y, _, dY, _ = roots_tangent(A, A @ A, E, self.quintics, self.products)
        return Y, dY

    def psi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        _, Z, _, dZ = roots_tangent(A, A @ A, E, self.quintics, self.products)
        return Z, dZ


@dataclass(frozen=True)
class PolarLyapunov(Method):
    """Minimax quintics forward, Lyapunov equation backward; saves both roots of the smaller side."""

    solver: PolarExpress

    def settle(self, dtype: torch.dtype, smaller: bool | None) -> tuple[Method, torch.dtype]:
        if smaller is False:  # singular, and float32 does not carry its inverse root
            return self, torch.float64
        if smaller is None or dtype == torch.float64:
            # a matrix alone does not tell whether it is singular; in float64 the derivative of the steps is exact
            return Iterations(self.solver, centred=self.centred), dtype
        return self, dtype

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        P = zero_noise(P, floor)
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
        nu, A, A2 = normalise(zero_noise(gram(Xc), floor))
        if self.centred:
            deflated = deflate(A)
            shift = deflated[:, :1, :1] - A[:, :1, :1]
            # (A + s 1 1^T)^2 = A^2 + s^2 M 1 1^T, because A 1 = 0
            A, A2 = deflated, A2 + shift * shift * A.shape[1]
        Y, Z = roots(A, A2, self.solver.quintics, self.solver.products)
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
