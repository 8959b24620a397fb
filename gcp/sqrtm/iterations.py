r"""Iterative solvers with the derivative of their own iterations.

With A = P/nu, Xn = Xc/sqrt(nu) and upstream gradient G,

    channel:  D = Dphi[A](G),  delta = <G, phi>/2 - <D, A>,   dL/dP = (D + delta dnu) / sqrt(nu)
    sample:   C = Xn^T G Xn / M,  D = Dpsi[A](C),  delta = phi(0) tr(G)/2 - <C, psi>/2 - <D, A>,
              dL/dXc = (2/M) [G Xn psi + Xn (D + delta dnu)]

where dnu is the gradient of the norm at A. Nothing of the iteration is saved.

The Gram matrix has the exact null vector 1, which costs an inverse root accuracy in float32. The iterations run on
K + (tr K / M^2) 1 1^T instead; since Xc 1 = 0, neither the result nor the gradient changes.
"""

from dataclasses import dataclass

from torch import Tensor

from gcp.ops.covariance import gram
from gcp.ops.matrix import add_identity_, inverse_or_zero, scaled, trace
from gcp.solvers import Solver
from gcp.sqrtm.method import Method, Saved, silence


def normalised_gram(Xc: Tensor, floor: Tensor, solver: Solver) -> tuple[Tensor, Tensor, Tensor]:
    """Nu (B,), A = K/nu (B, M, M), and A with the vector 1 deflated."""
    K = silence(gram(Xc), floor)
    nu = solver.norm(K)
    A = scaled(K, inverse_or_zero(nu))
    return nu, A, deflate(A)


def deflate(A: Tensor) -> Tensor:
    """A + (tr A / M^2) 1 1^T."""
    return A + (trace(A) / A.shape[1] ** 2)[:, None, None]


@dataclass(frozen=True)
class Iterations(Method):
    """A solver, differentiated through its iterations."""

    solver: Solver

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        P = silence(P, floor)
        nu = self.solver.norm(P)
        A = scaled(P, inverse_or_zero(nu))
        return scaled(self.solver.phi(A), nu.sqrt()), (A, nu)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        A, nu = saved
        phi, D = self.solver.phi_tangent(A, G)
        delta = (G * phi).sum((1, 2)) / 2 - (D * A).sum((1, 2))
        return scaled(D + scaled(self.solver.norm_gradient(A).expand_as(A), delta), inverse_or_zero(nu.sqrt()))

    def sample_root(self, Xc: Tensor, floor: Tensor) -> tuple[Tensor, Saved]:
        nu, _, A = normalised_gram(Xc, floor, self.solver)
        return gram_side_root(Xc, nu, self.solver.psi(A), self.solver.null_value), (floor,)

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved) -> Tensor:
        samples = Xc.shape[2]
        nu, A, deflated = normalised_gram(Xc, saved[0], self.solver)
        Xn = scaled(Xc, inverse_or_zero(nu.sqrt()))
        GX = G @ Xn
        C = Xn.mT @ GX / samples
        psi, D = self.solver.psi_tangent(deflated, C)
        delta = self.solver.null_value * trace(G) / 2 - (C * psi).sum((1, 2)) / 2 - (D * A).sum((1, 2))
        inner = D + scaled(self.solver.norm_gradient(A).expand_as(A), delta)
        return (2 / samples) * (GX @ psi + Xn @ inner)


def gram_side_root(Xc: Tensor, nu: Tensor, psi: Tensor, null_value: float) -> Tensor:
    """Q (B, d, d) = phi(0) sqrt(nu) I + Xc psi Xc^T / (M sqrt nu)."""
    Q = scaled(Xc @ psi, inverse_or_zero(nu.sqrt()) / Xc.shape[2]) @ Xc.mT
    return add_identity_(Q, null_value * nu.sqrt()) if null_value else Q
