"""What every file of the mathematics uses: small operations on batches of matrices, precision, and guards.

A gradient that is right once and would be silently wrong twice is guarded: a double backward must raise.
`torch.autograd.function.once_differentiable` leaves a node without inputs behind; `torch.autograd.grad` never
visits it and returns the gradient of whatever other path there is. `first_order` stays connected.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor

from gcp.errors import NonFiniteError, OptionError, ShapeError, suggest

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}

# ---- Batches of square matrices (B, n, n) ----


def trace(A: Tensor) -> Tensor:
    """Traces (B,)."""
    return A.diagonal(dim1=1, dim2=2).sum(1)


def sym(G: Tensor) -> Tensor:
    """(G + G^T) / 2."""
    return (G + G.mT) / 2


def scaled(X: Tensor, factor: Tensor) -> Tensor:
    """Each matrix of a batch (B, m, n) times its factor (B,)."""
    return X * factor[:, None, None]


def add_identity_(A: Tensor, scale: Tensor | float) -> Tensor:
    """A + scale I in place, for a scale per matrix (B,) or one number."""
    scale = scale[:, None] if isinstance(scale, Tensor) else scale
    if torch.compiler.is_exporting():  # programs elsewhere have no writing into a part of a tensor
        return A + torch.diag_embed((A.new_ones(A.shape[1]) * scale).expand(A.shape[:2]))
    A.diagonal(dim1=1, dim2=2).add_(scale)
    return A


def inverse_or_zero(x: Tensor) -> Tensor:
    """1 / x where x > 0, else 0."""
    positive = x > 0
    return torch.where(positive, x, 1).reciprocal() * positive


def finite_or_zero(x: Tensor) -> Tensor:
    """x, 0 where it is infinite or NaN."""
    return torch.where(x.isfinite(), x, 0)


# ---- Precision ----


def check_precision(precision: str | None) -> None:
    """Raise OptionError unless `precision` is None, `float32` or `float64`."""
    if precision is not None and not (isinstance(precision, str) and precision in PRECISIONS):
        hint = suggest(str(precision), PRECISIONS)
        raise OptionError(f"precision is {precision!r}; allowed: {', '.join(PRECISIONS)}, or null.{hint}")


def require_real(x: object, what: str) -> None:
    """Raise ShapeError unless x is a tensor of real numbers."""
    if not isinstance(x, Tensor):
        raise ShapeError(f"{what} must be a torch tensor, got {type(x).__name__}; convert with torch.as_tensor(...).")
    if x.is_complex():
        raise ShapeError(f"{what} must be real, got {x.dtype}; take .real or .abs().")


def compute_dtype(x: Tensor, precision: str | None, default: str) -> torch.dtype:
    """The dtype asked for, but never less than that of the input.

    Raises:
        ShapeError: the input is not floating point.
    """
    if not x.is_floating_point():
        raise ShapeError(f"floating-point values are needed, got {x.dtype}; convert with .float().")
    check_precision(precision)
    return torch.promote_types(PRECISIONS[precision or default], x.dtype)


def output_dtype(x: Tensor) -> torch.dtype:
    """float32 for bfloat16 and float16 input, else the dtype of the input."""
    return torch.promote_types(x.dtype, torch.float32)


def on_gpu(x: Tensor) -> bool:
    """Whether the operators with a CUDA kernel are called for this tensor."""
    return x.is_cuda


def outside_autocast(x: Tensor) -> AbstractContextManager:
    """Switch autocast off for the device of `x`; a covariance in bfloat16 is noise."""
    # the meta device has no autocast; asking torch which devices have one breaks torch.compile before 2.12
    return nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)


# ---- Non-finite values ----


def all_finite(x: Tensor) -> Tensor:
    """A bool of shape (): one pass over memory, where `isfinite` takes four; NaN wins in `aminmax`."""
    if x.numel() == 0:
        return torch.ones((), dtype=torch.bool, device=x.device)
    smallest, largest = torch.aminmax(x)
    return torch.isfinite(smallest) & torch.isfinite(largest)


def require_finite(x: Tensor, what: str) -> None:
    """Raise NonFiniteError that names the first sample, in eager mode on the CPU; elsewhere a test would stall."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return
    x = x.detach()
    if not bool(all_finite(x)):
        sample = int((~torch.isfinite(x)).flatten(1).any(1).nonzero()[0])
        raise NonFiniteError(f"{what} {sample} of the batch hold inf or NaN")


# ---- Double backward ----


class _Guard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *inputs: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        refuse()


def refuse() -> NoReturn:
    """Raise what a double backward raises."""
    raise RuntimeError(
        "a double backward through a covariance head is not implemented: its gradients are first order only"
    )


def first_order(gradient: Tensor, *inputs: Tensor) -> Tensor:
    """`gradient`, computed from `inputs` without a graph, as a result that cannot be differentiated again."""
    if torch.compiler.is_compiling():  # compiled graphs refuse a double backward by themselves
        return gradient
    return _Guard.apply(gradient, *inputs)
