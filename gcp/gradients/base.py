r"""What a backward rule is.

With P = V diag(l) V^T, Q = V diag(sqrt l) V^T, upstream gradient G and S = V^T sym(G) V,

    dL/dP = V (W o S) V^T + c I,       W_ij = rho(a, b) / (sqrt a + sqrt b),   a = max(l_i, l_j), b = min(l_i, l_j)

The exact derivative has rho = 1 (the divided difference of the square root, without any difference) and
diagonal 1 / (2 sqrt l_i). The published methods put a factor K_ij ~ 1/(l_i - l_j) in its place:
W_ij = K_ij (sqrt l_i - sqrt l_j), which folds into a rho for each of them. W between two null eigenvalues
is 0: the derivative with respect to the features never needs it.

Two forms: `folded`, the closed form W, which cancels nowhere; and `published` (`Published`), K applied to V^T dV in
the working precision with the published overflow check, which reproduces the instability that an ablation asks
about. In exact arithmetic they agree, but for `power_iteration` and `top_n` (see there).

To add a rule, add a file: the class with its ratio, registered; its published form; and, for a kernel on the GPU, the
name of its functor in `gcp/kernels/heads.cu`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from gcp.errors import ShapeError
from gcp.ops.numerics import finite_or_zero, inverse_or_zero, require_real, sym
from gcp.options import build, defaults
from gcp.registry import Registry

Core = tuple[Tensor, Tensor | None, Tensor | None]


class Differences(Protocol):
    """What a rule asks of a function of the spectrum (`gcp.functions`)."""

    @property
    def increases(self) -> bool: ...

    def difference(self, left: Tensor, right: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Rule:
    """A backward rule of the matrix square root; its fields are its options.

    `head` is the name of the pooling head with this rule. `kernel` names the functor of `heads.cu` that computes the
    weight on a GPU; a subclass does not inherit it, for it may change the weight. `has_trace_term`: c is not zero.
    `homogeneous`: the ratio does not depend on the scale of the eigenvalues. `functions`: names of the functions of the
    spectrum that the rule has, None for all.
    """

    head: ClassVar[str | None] = None
    kernel: ClassVar[str | None] = None
    has_trace_term: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = True
    functions: ClassVar[tuple[str, ...] | None] = None

    @classmethod
    def has_function(cls, name: str) -> bool:
        """Whether the rule has this function of the spectrum."""
        return cls.functions is None or name in cls.functions

    @property
    def kernel_parameter(self) -> float:
        """The number that the functor takes."""
        return 0.0

    @classmethod
    def of_kernel_parameter(cls, parameter: float) -> "Rule":
        """The rule with this `kernel_parameter`."""
        return cls()

    def ratio(self, left: Tensor, right: Tensor) -> Tensor | None:
        """The weight over the exact one, elementwise for eigenvalues in any order; None where it is 1 everywhere."""
        return None

    def spectrum(self, eigenvalues: Tensor, channels: int) -> Tensor:
        """Eigenvalues (B, n) that the root is taken of; `channels` is d, also where n is smaller."""
        return eigenvalues

    def published(self) -> "Published | None":
        """The published form, or None where there is none; costs are paid here, once."""
        return None

    def weight(self, kept: Tensor) -> Tensor:
        """Folded W (B, n, n) of eigenvalues (B, n)."""
        roots, null = kept.sqrt(), kept == 0
        W = roots[:, :, None] + roots[:, None, :]
        W.masked_fill_(null[:, :, None] & null[:, None, :], torch.inf).reciprocal_()  # null with null: weight 0
        ratio = self.ratio(kept[:, :, None], kept[:, None, :])
        if ratio is not None:
            W.mul_(ratio).diagonal(dim1=1, dim2=2).copy_(inverse_or_zero(2 * roots))
        return W

    def null_weight(self, kept: Tensor) -> Tensor:
        """w0 (B, n): the weight between an eigenvalue and a null one, the limit of W(l, b) for b -> 0."""
        w0 = inverse_or_zero(kept.sqrt())
        ratio = self.ratio(kept, torch.zeros_like(kept))
        return w0 if ratio is None else w0 * ratio

    def core(self, kept: Tensor, S: Tensor) -> tuple[Tensor, Tensor | None]:
        """W o S (B, n, n) and the trace term c (B,), or None where it is zero."""
        return self.weight(kept).mul_(S), None

    def spectral_core(self, kept: Tensor, S: Tensor, subtract: bool = False) -> Core:
        """What the gradient needs of S = V^T sym(G) V.

        Args:
            kept: eigenvalues (B, n) >= 0, exact zeros are null.
            S: (B, n, n), symmetric up to rounding.
            subtract: S diag(w0) from the core, as the sample side needs it.

        Returns:
            core (B, n, n); w0 (B, n) if `subtract`, else None; c (B,), or None for a rule without a trace term.
        """
        core, c = self.core(kept, S)
        if not subtract:
            return core, None, c
        w0 = self.null_weight(kept)
        return core.addcmul_(S, w0[:, None, :], value=-1), w0, c

    def function_core(
        self, function: Differences, ridge: float, kept: Tensor, S: Tensor, subtract: bool, channels: int
    ) -> Core:
        """As `spectral_core` for g(l) = f(l + ridge) in the place of the root.

            W_ij = rho_ij g[l_i, l_j],    W_ii = g'(l_i),    w0_j = rho_0j (g(l_j) - g(0)) / l_j

        with the ratio rho at l + ridge, and 0 where g has no derivative (a root at zero). `channels` is d: a rule with
        a trace term counts the ridge of the eigenvalues that are not among `kept`.
        """
        kept, null = kept + ridge, torch.full_like(kept, ridge)

        def weight(left: Tensor, right: Tensor) -> Tensor:
            W, ratio = finite_or_zero(function.difference(left, right)), self.ratio(left, right)
            return W if ratio is None else W * ratio

        W = weight(kept[:, :, None], kept[:, None, :])
        W.diagonal(dim1=1, dim2=2).copy_(finite_or_zero(function.difference(kept, kept)))
        if not subtract:
            return W * S, None, None
        w0 = weight(kept, null)
        return W * S - S * w0[:, None, :], w0, None


@dataclass(frozen=True)
class Published:
    """The published form of a rule: a factor K ~ 1/(l_i - l_j), applied in the working precision."""

    def spectrum(self, eigenvalues: Tensor) -> Tensor:
        """Eigenvalues (B, n) clamped at machine epsilon, whose root is taken."""
        return eigenvalues.clamp(min=torch.finfo(eigenvalues.dtype).eps)

    def factor(self, clamped: Tensor) -> Tensor:
        """K (B, n, n) of clamped eigenvalues (B, n), zero diagonal."""
        raise NotImplementedError

    def core(self, clamped: Tensor, S: Tensor) -> Tensor:
        """V^T dL/dP V (B, n, n) by the factor K, in the precision of S, with the published overflow check."""
        roots = clamped.sqrt()
        V_dV = 2 * S * roots[:, None, :]
        K = overflow_check(self.factor(clamped))
        core = sym(overflow_check(K.mT * V_dV))
        core.diagonal(dim1=1, dim2=2).copy_(S.diagonal(dim1=1, dim2=2) / (2 * roots))
        return core

    def gradient(self, P: Tensor, V: Tensor, clamped: Tensor, G: Tensor) -> Tensor:
        """dL/dP (B, d, d), for a symmetric upstream gradient G (B, d, d)."""
        return V @ self.core(clamped, V.mT @ G @ V) @ V.mT


@dataclass(frozen=True)
class PublishedDifference(Published):
    """K = 1/(l_i - l_j), infinite where two eigenvalues are equal."""

    def factor(self, clamped: Tensor) -> Tensor:
        K = 1 / (clamped[:, :, None] - clamped[:, None, :])
        K.diagonal(dim1=1, dim2=2).zero_()
        return K


def signed_pairs(eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    """X = b/a and +-1/a (B, n, n), the sign that of l_i - l_j (plus where equal), zero diagonal."""
    rows, columns = eigenvalues[:, :, None], eigenvalues[:, None, :]
    a = torch.maximum(rows, columns)
    x = torch.minimum(rows, columns) / a
    inverse = torch.where(rows >= columns, 1 / a, -1 / a)
    inverse.diagonal(dim1=1, dim2=2).zero_()
    return x, inverse


def overflow_check(K: Tensor) -> Tensor:
    """Published: +-inf become the largest and smallest finite entry of the batch."""
    finite = torch.isfinite(K)
    largest = torch.where(finite, K, -torch.inf).amax()
    smallest = torch.where(finite, K, torch.inf).amin()
    return torch.where(finite, K, torch.where(K < 0, smallest, largest))


RULES: Registry[type[Rule]] = Registry("rule")


def rule_options(name: str) -> dict[str, Any]:
    """Options of a rule with their defaults."""
    return defaults(RULES[name].obj)


def create_rule(name: str, **options: Any) -> Rule:
    """The rule `name` with its options.

    Raises:
        UnknownNameError: no rule of that name.
        OptionError: an option that the rule does not take, or a value outside its bounds.
    """
    return build(RULES[name].obj, name, options)


def spectral_weight(eigenvalues: Tensor, rule: str = "exact", **options: Any) -> Tensor:
    """W (B, d, d) of eigenvalues (B, d) in any order, in their dtype; exact zeros are null eigenvalues.

    `newton` has a trace term besides W (see `gcp.gradients.newton`).

    Raises:
        ShapeError: not (B, d), or a negative or non-finite eigenvalue.

    Examples:
        >>> import gcp, torch
        >>> eigenvalues = torch.tensor([[4.0, 1.0]])
        >>> gcp.spectral_weight(eigenvalues)  # 1 / (sqrt(a) + sqrt(b))
        tensor([[[0.2500, 0.3333],
                 [0.3333, 0.5000]]])
    """
    require_real(eigenvalues, "eigenvalues")
    if eigenvalues.ndim != 2 or not eigenvalues.is_floating_point():
        raise ShapeError(f"eigenvalues (B, d) are needed, got {eigenvalues.dtype} of shape {tuple(eigenvalues.shape)}.")
    if not torch.compiler.is_compiling() and not bool((eigenvalues >= 0).all() & eigenvalues.isfinite().all()):
        raise ShapeError(f"eigenvalues must be finite and >= 0, got {eigenvalues.min():g} as the smallest; clamp them.")
    chosen = create_rule(rule, **options)
    return chosen.weight(chosen.spectrum(eigenvalues, eigenvalues.shape[1]))
