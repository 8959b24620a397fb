r"""Eigen-methods: decompose once, then any rule.

Channel side: P = V diag(l) V^T, Q = V diag(f) V^T, dL/dP = V core V^T + c I.

Sample side: K = Xc^T Xc / M = U diag(l) U^T gives the range of P as V = Xc U / sqrt(M l), and since
V^T Xc = sqrt(M) diag(sqrt l) U^T only pairs with at least one non-zero eigenvalue are ever needed:

    dL/dXc = (2/sqrt M) [V core + (I - V V^T) G V diag(w0)] diag(sqrt l) U^T + (2/M) c Xc

The gradient with respect to the features is exact and finite where P is singular, as long as the rank is
locally constant; at a drop of rank Q has a kink, and this is the central derivative.

A method that is not homogeneous decomposes at unit scale, too: with Xc = u X1 the eigenvalues are u^2 times those of
X1; functions and weights are taken of these in float64, whose range holds them, and the gradient above is computed with
X1, u core and u w0.
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
from gcp.ops.numerics import add_identity_, finite_or_zero, inverse_or_zero, on_gpu, require_finite
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

    def unit_core(self, kept: Tensor, S: Tensor, unit: Tensor | None, subtract: bool = False) -> Core:
        """`core` of eigenvalues in units of unit^2, times the unit (B, 1)."""
        if unit is None:
            return self.core(kept, S, subtract)
        core, w0, c = self.core(in_full(kept, unit), S.double(), subtract)
        assert c is None, "a rule with a trace term is homogeneous"
        return (core * unit[:, :, None]).to(S.dtype), None if w0 is None else (w0 * unit).to(S.dtype), None

    def matrix_root(self, P: Tensor, floor: Tensor | None, unit: Tensor | None = None) -> tuple[Tensor, Saved]:
        eigenvalues, V = kernels.eigh(P)
        kept = self.rule.spectrum(without_noise(eigenvalues, floor), P.shape[1])
        values = self.values(in_full(kept, unit)).to(P.dtype)
        return (V * values[:, None, :]) @ V.mT, (kept, V)

    def matrix_gradient(self, G: Tensor, saved: Saved, unit: Tensor | None = None) -> Tensor:
        kept, V = saved
        core, _, c = self.unit_core(kept, V.mT @ G @ V, unit)
        gradient = V @ core @ V.mT
        return gradient if c is None else add_identity_(gradient, c)

    def sample_root(self, Xc: Tensor, floor: Tensor, unit: Tensor | None = None) -> tuple[Tensor, Saved]:
        eigenvalues, U = kernels.eigh(gram(Xc))
        eigenvalues = without_noise(eigenvalues, floor)
        kept = self.rule.spectrum(eigenvalues, Xc.shape[1])
        half = self.values(in_full(kept, unit)).sqrt().to(Xc.dtype)
        half = range_of(Xc, eigenvalues, U, half)  # Q = (V f^(1/2)) (V f^(1/2))^T
        return half @ half.mT, (eigenvalues, kept, U)

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved, unit: Tensor | None = None) -> Tensor:
        eigenvalues, kept, U = saved
        samples = Xc.shape[2]
        V = range_of(Xc, eigenvalues, U)
        GV = G @ V
        core, w0, c = self.unit_core(kept, V.mT @ GV, unit, subtract=True)
        assert w0 is not None
        inner = GV.mul_(w0[:, None, :]).baddbmm_(V, core)
        gradient = inner.mul_((2 / samples**0.5 * eigenvalues.sqrt())[:, None, :]) @ U.mT
        return gradient if c is None else gradient + (2 / samples) * c[:, None, None] * Xc


@dataclass(frozen=True)
class FunctionEigen(Eigen):
    r"""Any function of the spectrum with a ridge e, g(l) = f(l + e), in the place of the root.

        F = g(0) I + V diag(g(l) - g(0)) V^T

    with the weights of `Rule.function_core`.
    """

    function: SpectralFunction
    ridge: float

    @property
    def homogeneous(self) -> bool:
        return False

    def values(self, kept: Tensor) -> Tensor:
        return self.function.value(kept + self.ridge)

    def core(self, kept: Tensor, S: Tensor, subtract: bool = False, channels: int = 0) -> Core:
        if on_gpu(S):
            return kernels.function_core(self.function, self.ridge, self.rule, kept, S, subtract, channels)
        return self.rule.function_core(self.function, self.ridge, kept, S, subtract, channels)

    def sample_root(self, Xc: Tensor, floor: Tensor, unit: Tensor | None = None) -> tuple[Tensor, Saved]:
        eigenvalues, U = kernels.eigh(gram(Xc))
        eigenvalues = without_noise(eigenvalues, floor)
        kept = self.rule.spectrum(eigenvalues, Xc.shape[1])
        full = in_full(kept, unit)
        at_zero = torch.full_like(full, self.ridge)
        growth = full * finite_or_zero(self.function.difference(full + self.ridge, at_zero)).abs()  # |g(l) - g(0)|
        half = range_of(Xc, eigenvalues, U, growth.sqrt().to(Xc.dtype))
        F = half @ half.mT if self.function.increases else -half @ half.mT
        return add_identity_(F, self.function.value(at_zero[:, 0]).to(Xc.dtype)), (eigenvalues, kept, U)


@dataclass(frozen=True)
class PublishedEigen(Method):
    """Eigendecomposition with a rule in its published form; the channel side only."""

    default_precision: ClassVar[str] = "float64"
    rescales: ClassVar[bool] = False  # eigenvalues are clamped at machine epsilon, as published
    form: Published

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        what = (
            "form='published' works at the scale of the features, take precision='float64': the covariances of sample"
        )
        require_finite(P, what)
        eigenvalues, V = kernels.eigh(P)
        clamped = self.form.spectrum(eigenvalues)
        return (V * clamped.sqrt()[:, None, :]) @ V.mT, (P, clamped, V)

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        P, clamped, V = saved
        return self.form.gradient(P, V, clamped, G)


def in_full(kept: Tensor, unit: Tensor | None) -> Tensor:
    """Eigenvalues (B, n) in units of unit^2 (B, 1) as they are, in float64; without a unit unchanged."""
    return kept if unit is None else kept.double() * unit.double().square()


def range_of(Xc: Tensor, eigenvalues: Tensor, U: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """V diag(scale) (B, d, M): eigenvectors of P for non-zero eigenvalues, zero columns for the others."""
    scale = scale * inverse_or_zero((Xc.shape[2] * eigenvalues).sqrt())
    return Xc @ (U * scale[:, None, :])
