r"""Eigen-methods: decompose once, then any rule.

Channel side: P = V diag(l) V^T, Q = V diag(f) V^T, dL/dP = V core V^T + c I.

Sample side: K = Xc^T Xc / M = U diag(l) U^T gives the range of P as V = Xc U / sqrt(M l), and since
V^T Xc = sqrt(M) diag(sqrt l) U^T only pairs with at least one non-zero eigenvalue are ever needed:

    dL/dXc = (2/sqrt M) [V core + (I - V V^T) G V diag(w0)] diag(sqrt l) U^T + (2/M) c Xc

The gradient with respect to the features is exact and finite where P is singular, as long as the rank is
locally constant; at a drop of rank Q has a kink, and this is the central derivative.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gcp import kernels
from gcp.functions import SpectralFunction
from gcp.gradients import Rule
from gcp.gradients.base import Core, Published
from gcp.ops.covariance import gram, without_noise
from gcp.ops.numerics import add_identity_, inverse_or_zero, on_gpu
from gcp.roots.root import Method, Saved


@dataclass(frozen=True)
class Eigen(Method):
    """Eigendecomposition with a rule in its folded form.

    float64 by default, as published: forming P squares the condition number.
    """

    default_precision: ClassVar[str] = "float64"
    rule: Rule

    @property
    def homogeneous(self) -> bool:
        return self.rule.homogeneous

    def values(self, kept: Tensor) -> Tensor:
        """Eigenvalues (B, n) of the output."""
        return kept.sqrt()

    def core(self, kept: Tensor, S: Tensor, subtract: bool = False) -> Core:
        """As `Rule.spectral_core`."""
        if on_gpu(S):
            return kernels.spectral_core(self.rule, kept, S, subtract)
        return self.rule.spectral_core(kept, S, subtract)

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        eigenvalues, V = kernels.eigh(P)
        kept = self.rule.spectrum(without_noise(eigenvalues, floor), P.shape[1])
        return (V * self.values(kept)[:, None, :]) @ V.mT, (kept, V)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        kept, V = saved
        core, _, c = self.core(kept, V.mT @ G @ V)
        gradient = V @ core @ V.mT
        return gradient if c is None else add_identity_(gradient, c)

    def sample_root(self, Xc: Tensor, floor: Tensor) -> tuple[Tensor, Saved]:
        eigenvalues, U = kernels.eigh(gram(Xc))
        eigenvalues = without_noise(eigenvalues, floor)
        kept = self.rule.spectrum(eigenvalues, Xc.shape[1])
        half = _range(Xc, eigenvalues, U, self.values(kept).sqrt())  # Q = (V f^(1/2)) (V f^(1/2))^T
        return half @ half.mT, (eigenvalues, kept, U)

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved) -> Tensor:
        eigenvalues, kept, U = saved
        samples = Xc.shape[2]
        V = _range(Xc, eigenvalues, U)
        GV = G @ V
        core, w0, c = self.core(kept, V.mT @ GV, subtract=True)
        assert w0 is not None
        inner = GV.mul_(w0[:, None, :]).baddbmm_(V, core)
        gradient = inner.mul_((2 / samples**0.5 * eigenvalues.sqrt())[:, None, :]) @ U.mT
        return gradient if c is None else gradient + (2 / samples) * c[:, None, None] * Xc


@dataclass(frozen=True)
class FunctionEigen(Eigen):
    r"""Any function of the spectrum with a ridge e, g(l) = f(l + e), in the place of the root.

        F = g(0) I + V diag(g(l) - g(0)) V^T,    W_ij = rho_ij g[l_i, l_j],    w0_j = rho_0j (g(l_j) - g(0)) / l_j

    rho is the rule's ratio at l + e. Where g has no derivative (a root at zero), the weight between two null
    eigenvalues is 0.
    """

    function: SpectralFunction
    ridge: float

    @property
    def homogeneous(self) -> bool:
        return False

    def values(self, kept: Tensor) -> Tensor:
        return self.function.value(kept + self.ridge)

    def core(self, kept: Tensor, S: Tensor, subtract: bool = False) -> Core:
        W = self._weight(kept[:, :, None], kept[:, None, :])
        W.diagonal(dim1=1, dim2=2).copy_(_finite(self.function.difference(kept + self.ridge, kept + self.ridge)))
        if not subtract:
            return W * S, None, None
        w0 = self._weight(kept, torch.zeros_like(kept))
        return W * S - S * w0[:, None, :], w0, None

    def sample_root(self, Xc: Tensor, floor: Tensor) -> tuple[Tensor, Saved]:
        eigenvalues, U = kernels.eigh(gram(Xc))
        eigenvalues = without_noise(eigenvalues, floor)
        kept = self.rule.spectrum(eigenvalues, Xc.shape[1])
        at_zero = torch.full_like(kept, self.ridge)
        growth = kept * _finite(self.function.difference(kept + self.ridge, at_zero)).abs()  # |g(l) - g(0)|
        half = _range(Xc, eigenvalues, U, growth.sqrt())
        F = half @ half.mT if self.function.increases else -half @ half.mT
        return add_identity_(F, self.function.value(at_zero[:, 0])), (eigenvalues, kept, U)

    def _weight(self, left: Tensor, right: Tensor) -> Tensor:
        left, right = left + self.ridge, right + self.ridge
        W, ratio = _finite(self.function.difference(left, right)), self.rule.ratio(left, right)
        return W if ratio is None else W * ratio


def _finite(W: Tensor) -> Tensor:
    return torch.where(W.isfinite(), W, 0)


@dataclass(frozen=True)
class PublishedEigen(Method):
    """Eigendecomposition with a rule in its published form; the channel side only."""

    default_precision: ClassVar[str] = "float64"
    form: Published

    @property
    def homogeneous(self) -> bool:
        return False  # eigenvalues are clamped at machine epsilon

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        eigenvalues, V = kernels.eigh(P)
        clamped = self.form.spectrum(eigenvalues)
        return (V * clamped.sqrt()[:, None, :]) @ V.mT, (P, clamped, V)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        P, clamped, V = saved
        return self.form.gradient(P, V, clamped, G)


def _range(Xc: Tensor, eigenvalues: Tensor, U: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """V diag(scale) (B, d, M): eigenvectors of P for non-zero eigenvalues, zero columns for the others."""
    scale = scale * inverse_or_zero((Xc.shape[2] * eigenvalues).sqrt())
    return Xc @ (U * scale[:, None, :])
