"""Which precision a head computes in, and how it stays outside autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from gcp.errors import OptionError, ShapeError, suggest

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


def check_precision(precision: str | None) -> None:
    """Raise OptionError unless `precision` is None, `float32` or `float64`."""
    if precision is not None and not (isinstance(precision, str) and precision in PRECISIONS):
        hint = suggest(str(precision), PRECISIONS)
        raise OptionError(f"precision is {precision!r}; allowed: {', '.join(PRECISIONS)}, or null.{hint}")


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


def outside_autocast(x: Tensor) -> AbstractContextManager:
    """Switch autocast off for the device of `x`; a covariance in bfloat16 is noise."""
    # the meta device has no autocast; asking torch which devices have one breaks torch.compile before 2.12
    return nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)
