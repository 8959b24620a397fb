"""The public functions: square root of the covariance of a feature map, and of a matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gcp.errors import OptionError, ShapeError, suggest
from gcp.gradients import create_rule
from gcp.gradients.scaling_branch import ScalingBranch
from gcp.ops.covariance import samples
from gcp.ops.finite import require_finite
from gcp.ops.matrix import add_identity_, sym
from gcp.ops.precision import check_precision, compute_dtype, outside_autocast
from gcp.solvers import SOLVERS, Solver, create_solver
from gcp.solvers.approximant import Approximant
from gcp.solvers.eig import Eig
from gcp.solvers.polar_express import PolarExpress
from gcp.sqrtm.eigen import Eigen, PublishedEigen
from gcp.sqrtm.function import FeatureRoot, MatrixRoot
from gcp.sqrtm.iterations import Iterations
from gcp.sqrtm.lyapunov import ApproximantLyapunov, PolarLyapunov
from gcp.sqrtm.method import Method

SIDES = ("auto", "channel", "sample")
FORMS = ("folded", "published")
# relative to the largest entry: above rounding and finite differences, below what a mistake looks like
SKEW, INDEFINITE = 1e-3, 1e-5
NO_OPTIONS: Mapping[str, Any] = {}


def check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise OptionError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise OptionError(f"{key} is {value!r}; allowed: {', '.join(allowed)}.{suggest(str(value), allowed)}")


def _check_form(rule: str, solver: str, side: str, form: str) -> None:
    check_choice("side", side, SIDES)
    check_choice("form", form, FORMS)
    if solver != "eig" and rule != "exact":
        raise OptionError(f"solver {solver!r} brings its own backward; rule={rule!r} needs solver='eig'.")
    if form == "folded":
        return
    if solver != "eig":
        raise OptionError(f"solver {solver!r} has one form; form='published' needs solver='eig'.")
    if rule == "exact":
        raise OptionError("rule 'exact' has no published form; use form='folded', or rule='original'.")
    if side == "sample":
        raise OptionError("form='published' works on the channel side; use side='auto' or side='channel'.")


def _eigen_method(rule: str, form: str, options: Mapping[str, Any]) -> Method:
    chosen = create_rule(rule, **options)
    return Eigen(chosen) if form == "folded" else PublishedEigen(chosen.published())


def _iterative_method(solver: Solver) -> Method:
    if isinstance(solver, PolarExpress):
        return PolarLyapunov(solver)
    if isinstance(solver, Approximant) and solver.backward == "lyapunov":
        return ApproximantLyapunov(solver)
    return Iterations(solver)


@dataclass(frozen=True)
class Root:
    """A solver with a backward, a side and a precision: all checked, ready to be applied."""

    method: Method
    side: str
    precision: str | None
    default_precision: str

    @staticmethod
    def create(
        rule: str = "exact",
        solver: str = "eig",
        side: str = "auto",
        form: str = "folded",
        precision: str | None = None,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> "Root":
        """Arguments of `covariance_sqrt`; raises OptionError or UnknownNameError."""
        SOLVERS[solver]  # an unknown name is the first thing to say
        _check_form(rule, solver, side, form)
        check_precision(precision)
        if solver == "eig":
            side = "channel" if form == "published" else side
            return Root(_eigen_method(rule, form, options), side, precision, Eig.default_precision)
        built = create_solver(solver, **options)
        if precision == "float64" and options.get("products", "full") != "full":
            raise OptionError(
                f"products={options['products']!r} rounds float32; with precision='float64' nothing is rounded. "
                "Leave one of them out."
            )
        return Root(_iterative_method(built), side, precision, built.default_precision)

    def of_features(self, x: Tensor, packed: bool = False) -> Tensor:
        """(B, d, H, W) -> (B, d, d), or its upper triangle (B, d(d+1)/2) if `packed`."""
        d, M = samples(x).shape[1:]
        # at d = M the covariance is singular, and the Gram matrix has a known null vector
        smaller_is_sample = d >= M
        on_samples = smaller_is_sample if self.side == "auto" else self.side == "sample"
        dtype = compute_dtype(x, self.precision, self.default_precision)
        method, dtype = self.method.settle(dtype, smaller=on_samples == smaller_is_sample)
        with outside_autocast(x):
            return FeatureRoot.apply(x, dtype, method, on_samples, packed)

    def of_matrix(self, P: Tensor) -> Tensor:
        """(B, d, d) -> (B, d, d)."""
        method, dtype = self.method.settle(compute_dtype(P, self.precision, self.default_precision), smaller=None)
        with outside_autocast(P):
            return MatrixRoot.apply(P, dtype, method)


def covariance_sqrt(
    x: Tensor,
    rule: str = "exact",
    solver: str = "eig",
    side: str = "auto",
    form: str = "folded",
    precision: str | None = None,
    **options: Any,
) -> Tensor:
    """Square root of the covariance of a feature map, (B, d, H, W) -> (B, d, d).

    Args:
        x: feature map of any floating dtype and memory format, H W >= 2.
        rule: backward rule of the eigen-solver (`gcp.gradients`).
        solver: `eig`, or an iterative solver with its own backward (`gcp.solvers`).
        side: decompose the d x d covariance (`channel`), the M x M Gram matrix (`sample`), or the smaller (`auto`).
            Output and gradient are the same.
        form: `folded`, or the `published` form of the rule (channel side).
        precision: `float64` or `float32`; None is the solver's default. Never less than that of x.
        **options: of the rule or the solver.

    Returns:
        Q in the dtype of x, float32 for bfloat16 and float16. A double backward raises RuntimeError.

    Raises:
        ShapeError, OptionError, UnknownNameError: with what is allowed.
    """
    root = Root.create(rule, solver, side, form, precision, options)
    samples(x)
    require_finite(x, "the features of sample")
    return root.of_features(x)


def matrix_sqrt(
    P: Tensor,
    rule: str = "exact",
    solver: str = "eig",
    form: str = "folded",
    precision: str | None = None,
    **options: Any,
) -> Tensor:
    """Square root of symmetric positive semidefinite matrices, (B, d, d) -> (B, d, d).

    The gradient is symmetric; between two null eigenvalues its weight is 0. Arguments as `covariance_sqrt`.

    Raises:
        ShapeError: not square, not symmetric, or clearly indefinite (checked in eager mode on the CPU).
    """
    root = Root.create(rule, solver, "auto", form, precision, options)
    _check_matrix(P)
    return root.of_matrix(P)


def scaled_covariance_sqrt(x: Tensor, side: str = "auto", precision: str | None = None) -> Tensor:
    """The scaling eigen branch: Q (1 + s) of a feature map (B, d, H, W) -> (B, d, d), with its exact gradient."""
    return scaled_root(side, precision).of_features(x)


def scaled_root(side: str = "auto", precision: str | None = None) -> Root:
    """`Root` of the scaling eigen branch; raises OptionError."""
    check_choice("side", side, SIDES)
    check_precision(precision)
    return Root(Eigen(ScalingBranch()), side, precision, Eig.default_precision)


def _check_matrix(P: Tensor) -> None:
    if P.ndim != 3 or P.shape[1] != P.shape[2] or 0 in P.shape[1:]:
        raise ShapeError(f"square matrices (B, d, d) are needed, got shape {tuple(P.shape)}.")
    if torch.compiler.is_compiling() or P.device.type != "cpu" or not P.is_floating_point():
        return
    require_finite(P, "the entries of matrix")
    P = P.detach().to(torch.promote_types(P.dtype, torch.float32))
    scale = P.abs().amax((1, 2))
    skew = (P - P.mT).abs().amax((1, 2)) > SKEW * scale
    if bool(skew.any()):
        raise ShapeError(f"matrix {int(skew.nonzero()[0])} of the batch is not symmetric; pass (P + P.mT) / 2.")
    shift = INDEFINITE * scale + torch.finfo(P.dtype).tiny
    failed = torch.linalg.cholesky_ex(add_identity_(sym(P), shift)).info > 0
    if bool(failed.any()):
        raise ShapeError(
            f"matrix {int(failed.nonzero()[0])} of the batch is not positive semidefinite: it has an eigenvalue "
            f"below zero, which a covariance has not."
        )
