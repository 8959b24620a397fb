r"""`mpa` and `mtp`: rational and polynomial approximants of the root at A = P / |P|_F.

`mpa` is the matrix Pade approximant [5/5], phi(0) = 1/11; `mtp` the matrix Taylor polynomial of degree 10,
phi(0) = 0.176 (the published code overwrites its identity matrix, which puts its output 86 % away from the
polynomial; this is the polynomial). A null eigenvalue so becomes phi(0) sqrt |P|_F. Song, Sebe and Wang, ICLR 2022
(arXiv:2201.08663).

Two backwards. `lyapunov` is the gradient of the exact root at the solver's own output, as published (solved here to
1e-6, which eight published steps do not reach on a wide spectrum); it differs from the derivative of the solver's own
forward by 1-23 %. `iterations` is that derivative. With F the root of A, and Xn = Xc/sqrt(nu),

    channel:  F X + X F = G,                                                   dL/dP = X / sqrt(nu)
    sample:   F w + w F = Xn^T G Xn / M,  w = Xn^T X Xn / M,  and X Xn follows from w,

with F = phi(0) I + Xn psi Xn^T / M there; its spectrum is bounded below by phi(0), so that no inverse root is needed.

The inverse root is 1/phi for `mpa`, the same polynomials in the other order, and the polynomial of degree 10 of
(1 - z)^(-1/2) for `mtp` (Song, Sebe and Wang, TPAMI 2022), each with the derivative of its own forward.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.ops.covariance import gram, zero_noise
from gcp.ops.lyapunov import solve
from gcp.ops.numerics import add_identity_, inverse_or_zero, scaled, sym, trace
from gcp.ops.products import Coefficients, horner, horner_tangent, pade_root, taylor_root
from gcp.options import option
from gcp.roots.iterations import Iterations, deflate, gram_side_root, normalised_gram
from gcp.roots.root import Method, Saved
from gcp.solvers.base import SOLVERS, IterativeSolver


def cholesky_factor(A: Tensor) -> Tensor:
    """The lower factor of positive definite matrices (B, n, n); reads no result, which on a GPU would wait for it."""
    return torch.linalg.cholesky_ex(A).L


@dataclass(frozen=True)
class Approximant(IterativeSolver):
    """A rational or polynomial approximant of the root at A = P / |P|_F."""

    backward: str = option(
        "lyapunov", "gradient of the exact root, or of the iterations", choices=("lyapunov", "iterations")
    )

    def method(self) -> Method:
        return ApproximantLyapunov(self) if self.backward == "lyapunov" else Iterations(self)

    def norm(self, P: Tensor) -> Tensor:
        scale = trace(P)  # the square of a small matrix underflows
        return scale * torch.linalg.matrix_norm(P * inverse_or_zero(scale)[:, None, None])

    def norm_gradient(self, A: Tensor) -> Tensor:
        return A


NUMERATOR, DENOMINATOR = pade_root(5)
NULL_VALUE = NUMERATOR[0] / DENOMINATOR[0]
# (p - phi(0) q) / l, one degree less
QUOTIENT = tuple(a - NULL_VALUE * b for a, b in zip(NUMERATOR[1:], DENOMINATOR[1:], strict=True))


@SOLVERS.register("mpa", summary="matrix Pade approximant [5/5] at P / |P|_F", paper="Song et al., ICLR 2022")
@dataclass(frozen=True)
class MPA(Approximant):
    """phi = p / q with positive coefficients in A, so that q is positive definite."""

    head = "mpa_lyapunov"

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

    def chi(self, A: Tensor) -> Tensor:
        return self._divide(A, DENOMINATOR, NUMERATOR)

    def chi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        return self._divide_tangent(A, E, DENOMINATOR, NUMERATOR)

    def _divide(self, A: Tensor, numerator: Coefficients, denominator: Coefficients = DENOMINATOR) -> Tensor:
        return torch.cholesky_solve(horner(A, numerator), cholesky_factor(horner(A, denominator)))

    def _divide_tangent(
        self, A: Tensor, E: Tensor, numerator: Coefficients, denominator: Coefficients = DENOMINATOR
    ) -> tuple[Tensor, Tensor]:
        p, dp = horner_tangent(A, E, numerator)
        q, dq = horner_tangent(A, E, denominator)
        factor = cholesky_factor(q)
        value = torch.cholesky_solve(p, factor)
        return value, torch.cholesky_solve(dp - dq @ value, factor)


SERIES, INVERSE_SERIES = taylor_root(10), taylor_root(10, -0.5)
# psi in z = 1 - l: (sum_j c_j z^j - sum_j c_j) / (1 - z), whose coefficients are the tail sums of -c
SERIES_QUOTIENT = tuple(-sum(SERIES[i + 1 :]) for i in range(len(SERIES) - 1))


@SOLVERS.register("mtp", summary="matrix Taylor polynomial of degree 10 at P / |P|_F", paper="Song et al., ICLR 2022")
@dataclass(frozen=True)
class MTP(Approximant):
    """Matrix products only; a polynomial in I - A."""

    head = "mtp_lyapunov"

    @property
    def null_value(self) -> float:
        return sum(SERIES)

    def phi(self, A: Tensor) -> Tensor:
        return horner(add_identity_(-A, 1.0), SERIES)

    def psi(self, A: Tensor) -> Tensor:
        return horner(add_identity_(-A, 1.0), SERIES_QUOTIENT)

    def phi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        return horner_tangent(add_identity_(-A, 1.0), -E, SERIES)

    def psi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        return horner_tangent(add_identity_(-A, 1.0), -E, SERIES_QUOTIENT)

    def chi(self, A: Tensor) -> Tensor:
        return horner(add_identity_(-A, 1.0), INVERSE_SERIES)

    def chi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        return horner_tangent(add_identity_(-A, 1.0), -E, INVERSE_SERIES)


@dataclass(frozen=True)
class ApproximantLyapunov(Method):
    """MPA or MTP forward, Lyapunov equation of their own output backward."""

    solver: Approximant

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        P = zero_noise(P, floor)
        nu = self.solver.norm(P)
        F = sym(self.solver.phi(scaled(P, inverse_or_zero(nu))))
        return scaled(F, nu.sqrt()), (F, nu)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        F, nu = saved
        return scaled(self._solve(F, G), inverse_or_zero(nu.sqrt()))

    def sample_root(self, Xc: Tensor, floor: Tensor) -> tuple[Tensor, Saved]:
        nu, _, A = normalised_gram(Xc, floor, self.solver, self.centred)
        psi = sym(self.solver.psi(A))
        return gram_side_root(Xc, nu, psi, self.solver.null_value), (psi, nu)

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved) -> Tensor:
        psi, nu = saved
        samples, null = Xc.shape[2], self.solver.null_value
        Xn = scaled(Xc, inverse_or_zero(nu.sqrt()))
        A = deflate(gram(Xn)) if self.centred else gram(Xn)
        F = add_identity_(sym(A @ psi), null)
        GX = G @ Xn
        w = self._solve(F, Xn.mT @ GX / samples)
        right = GX - Xn @ (psi @ w)
        factor = cholesky_factor(add_identity_(F, null))  # F is positive definite, from phi(0) on
        return (2 / samples) * torch.cholesky_solve(right.mT, factor).mT

    def _solve(self, F: Tensor, C: Tensor) -> Tensor:
        return solve(F, C, self.solver.null_value, 4 * torch.finfo(F.dtype).eps)
