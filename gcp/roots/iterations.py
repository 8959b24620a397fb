r"""Iterative roots with the derivative of their own iterations.

An iteration is a scalar norm nu and a function phi, with Q = sqrt(nu) phi(P / nu). On the smaller side the same root is
Q = phi(0) sqrt(nu) I + Xc psi(K / nu) Xc^T / (M sqrt nu), with the Gram matrix K = Xc^T Xc / M and
phi(l) = phi(0) + l psi(l). With A = P/nu, Xn = Xc/sqrt(nu) and upstream gradient G,

    channel:  D = Dphi[A](G),  delta = <G, phi>/2 - <D, A>,   dL/dP = (D + delta dnu) / sqrt(nu)
    sample:   C = Xn^T G Xn / M,  D = Dpsi[A](C),  delta = phi(0) tr(G)/2 - <C, psi>/2 - <D, A>,
              dL/dXc = (2/M) [G Xn psi + Xn (D + delta dnu)]

where dnu is the gradient of the norm at A. Nothing of the iteration is saved.

Most iterations have an inverse root as well, F = chi(P / nu) / sqrt(nu), of P + e I with a ridge e (`Ridged`). Its norm
is not that of the Gram matrix, so it is taken on the channel side:

    D = Dchi[A](G),  delta = <G, chi>/2 + <D, A>,   dL/dP = (D - delta dnu) / nu^(3/2)

The Gram matrix has the exact null vector 1, which costs an inverse root accuracy in float32. The iterations run on
K + (tr K / M^2) 1 1^T instead; since Xc 1 = 0, neither the result nor the gradient changes.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from gcp.ops.covariance import gram, zero_noise
from gcp.ops.numerics import add_identity_, inverse_or_zero, scaled, trace
from gcp.roots.root import Method, Saved


class Iteration:
    """Norm and function of an iterative root, with their derivatives in a direction.

    The derivatives are their own adjoints, every function here being a polynomial or rational.
    """

    @property
    def null_value(self) -> float:
        """phi(0): what the solver makes of a null eigenvalue."""
        return 0.0

    def norm(self, P: Tensor) -> Tensor:
        """Nu (B,) of P or of its Gram matrix (B, n, n); equal for both."""
        raise NotImplementedError

    def norm_gradient(self, A: Tensor) -> Tensor:
        """D nu / d P (B, n, n) at A = P / nu: a polynomial in A, so that the Gram matrix may stand for P."""
        raise NotImplementedError

    def phi(self, A: Tensor) -> Tensor:
        """The root (B, n, n) of A = P / nu."""
        raise NotImplementedError

    def psi(self, A: Tensor) -> Tensor:
        """(phi(A) - phi(0) I) A^-1, (B, n, n), by a form without the inverse."""
        raise NotImplementedError

    def phi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        """phi(A) and its derivative in the symmetric direction E."""
        raise NotImplementedError

    def psi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        """psi(A) and its derivative in the symmetric direction E."""
        raise NotImplementedError

    def chi(self, A: Tensor) -> Tensor:
        """The inverse root (B, n, n) of A = P / nu; psi where phi(0) = 0."""
        return self.psi(A)

    def chi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        """chi(A) and its derivative in the symmetric direction E."""
        return self.psi_tangent(A, E)


def normalised_gram(
    Xc: Tensor, floor: Tensor, iteration: Iteration, centred: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Nu (B,), A = K/nu (B, M, M), and A with the vector 1 deflated where samples are centred."""
    K = zero_noise(gram(Xc), floor)
    nu = iteration.norm(K)
    A = scaled(K, inverse_or_zero(nu))
    return nu, A, deflate(A) if centred else A


def deflate(A: Tensor) -> Tensor:
    """A + (tr A / M^2) 1 1^T."""
    return A + (trace(A) / A.shape[1] ** 2)[:, None, None]


@dataclass(frozen=True)
class Iterations(Method):
    """An iteration, differentiated through its steps."""

    iteration: Iteration

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        P = zero_noise(P, floor)
        nu = self.iteration.norm(P)
        A = scaled(P, inverse_or_zero(nu))
        return scaled(self.iteration.phi(A), nu.sqrt()), (A, nu)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        A, nu = saved
        phi, D = self.iteration.phi_tangent(A, G)
        delta = (G * phi).sum((1, 2)) / 2 - (D * A).sum((1, 2))
        return scaled(D + scaled(self.iteration.norm_gradient(A).expand_as(A), delta), inverse_or_zero(nu.sqrt()))

    def sample_root(self, Xc: Tensor, floor: Tensor) -> tuple[Tensor, Saved]:
        nu, _, A = normalised_gram(Xc, floor, self.iteration, self.centred)
        return gram_side_root(Xc, nu, self.iteration.psi(A), self.iteration.null_value), (floor,)

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved) -> Tensor:
        samples = Xc.shape[2]
        nu, A, deflated = normalised_gram(Xc, saved[0], self.iteration, self.centred)
        Xn = scaled(Xc, inverse_or_zero(nu.sqrt()))
        GX = G @ Xn
        C = Xn.mT @ GX / samples
        psi, D = self.iteration.psi_tangent(deflated, C)
        delta = self.iteration.null_value * trace(G) / 2 - (C * psi).sum((1, 2)) / 2 - (D * A).sum((1, 2))
        inner = D + scaled(self.iteration.norm_gradient(A).expand_as(A), delta)
        return (2 / samples) * (GX @ psi + Xn @ inner)


def gram_side_root(Xc: Tensor, nu: Tensor, psi: Tensor, null_value: float) -> Tensor:
    """Q (B, d, d) = phi(0) sqrt(nu) I + Xc psi Xc^T / (M sqrt nu)."""
    Q = scaled(Xc @ psi, inverse_or_zero(nu.sqrt()) / Xc.shape[2]) @ Xc.mT
    return add_identity_(Q, null_value * nu.sqrt()) if null_value else Q


@dataclass(frozen=True)
class InverseIterations(Iterations):
    """The inverse root of a positive definite matrix; the channel side only."""

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        nu = self.iteration.norm(P)
        A = scaled(P, inverse_or_zero(nu))
        return scaled(self.iteration.chi(A), inverse_or_zero(nu.sqrt())), (A, nu)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        A, nu = saved
        chi, D = self.iteration.chi_tangent(A, G)
        delta = (G * chi).sum((1, 2)) / 2 + (D * A).sum((1, 2))
        D = D - scaled(self.iteration.norm_gradient(A).expand_as(A), delta)
        return scaled(D, inverse_or_zero(nu * nu.sqrt()))


@dataclass(frozen=True)
class Ridged(Method):
    """A method of P + ridge I in the place of P; the channel side only."""

    rescales: ClassVar[bool] = False  # the ridge has the units of P
    inner: Method
    ridge: float

    def settle(self, dtype: torch.dtype, smaller: bool | None) -> tuple[Method, torch.dtype]:
        inner, dtype = self.inner.settle(dtype, None)  # a ridge leaves no null space on either side
        return replace(self, inner=inner), dtype

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        return self.inner.matrix_root(add_identity_(zero_noise(P, floor).clone(), self.ridge), None)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        return self.inner.matrix_gradient(G, saved)
