"""The public functions: the square root, or another function, of the covariance of a feature map or of a matrix."""

from typing import Any

import torch
from torch import Tensor

from gcp.errors import ShapeError
from gcp.ops.covariance import samples
from gcp.ops.numerics import add_identity_, require_finite, require_real, sym
from gcp.roots.root import Root
from gcp.solvers import create_function_root, create_root

# relative to the largest entry: above rounding and finite differences, below what a mistake looks like
SKEW, INDEFINITE = 1e-3, 1e-5


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

    Examples:
        >>> import gcp, torch
        >>> x = torch.randn(2, 16, 7, 7, requires_grad=True)
        >>> Q = gcp.covariance_sqrt(x, rule="taylor", degree=50)
        >>> Q.shape
        torch.Size([2, 16, 16])
        >>> Q.sum().backward()  # through the Taylor polynomial of degree 50
    """
    root = create_root(rule, solver, side, form, precision, options)
    return _of_features(root, x)


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

    Examples:
        >>> import gcp, torch
        >>> P = torch.diag(torch.tensor([4.0, 9.0]))[None]
        >>> gcp.matrix_sqrt(P).round(decimals=4)
        tensor([[[2., 0.],
                 [0., 3.]]])
    """
    root = create_root(rule, solver, "auto", form, precision, options)
    _check_matrix(P)
    return root.of_matrix(P)


def covariance_function(
    x: Tensor,
    function: str = "inverse_sqrt",
    ridge: float = 1e-3,
    rule: str = "exact",
    side: str = "auto",
    precision: str | None = None,
    solver: str = "eig",
    **options: Any,
) -> Tensor:
    """A function of the covariance P + ridge I of a feature map, (B, d, H, W) -> (B, d, d).

    Args:
        x: feature map of any floating dtype and memory format, H W >= 2.
        function: `sqrt`, `inverse_sqrt`, `power`, `log` or `inverse` (`gcp.functions`).
        ridge: added to every eigenvalue, in the units of the covariance; a function that is not finite at 0 needs one.
        rule: backward rule of the root (`gcp.gradients`), whose ratio to the exact weight is taken over; `newton` for
            `sqrt` and `inverse_sqrt` only.
        side: as `covariance_sqrt`, which this is with sqrt and ridge=0.
        precision: as `covariance_sqrt`.
        solver: `eig`, or an iterative solver for `sqrt` and `inverse_sqrt`: on the channel side, with its own backward.
        **options: of the function (`exponent` of `power`) and of the rule or the solver.

    Raises:
        ShapeError, OptionError, UnknownNameError: with what is allowed.

    Examples:
        >>> import gcp, torch
        >>> x = torch.randn(2, 16, 7, 7)
        >>> whitening = gcp.covariance_function(x, "inverse_sqrt", ridge=1e-3)
        >>> whitening.shape
        torch.Size([2, 16, 16])
    """
    root = create_function_root(function, ridge, rule, side, precision, options, solver)
    return _of_features(root, x)


def matrix_function(
    P: Tensor,
    function: str = "log",
    ridge: float = 1e-3,
    rule: str = "exact",
    precision: str | None = None,
    solver: str = "eig",
    **options: Any,
) -> Tensor:
    """A function of P + ridge I for symmetric positive semidefinite matrices, (B, d, d) -> (B, d, d).

    Arguments as `covariance_function`; the gradient is symmetric.

    Raises:
        ShapeError: not square, not symmetric, or clearly indefinite (checked in eager mode on the CPU).

    Examples:
        >>> import gcp, torch
        >>> P = torch.diag(torch.tensor([1.0, 4.0]))[None]
        >>> gcp.matrix_function(P, "power", ridge=0, exponent=0.25).diagonal(dim1=1, dim2=2).round(decimals=4)
        tensor([[1.0000, 1.4142]])
    """
    root = create_function_root(function, ridge, rule, "auto", precision, options, solver)
    _check_matrix(P)
    return root.of_matrix(P)


def _of_features(root: Root, x: Tensor) -> Tensor:
    samples(x)
    require_finite(x, "the features of sample")
    return root.of_features(x)


def _check_matrix(P: Tensor) -> None:
    require_real(P, "a matrix")
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
