"""How an operation of this folder becomes a torch operator, and when it does.

An operator is opaque to the compiler, so `torch.compile(fullgraph=True)` passes through it on every device; on
tensors of the CPU the callers do not use it, for the plain torch operations are what the compiler can fuse.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.library import CustomOpDef, custom_op

from gcp.kernels.launch import available
from gcp.ops.first_order import refuse

_plain: list[None] = []


@contextmanager
def without_kernels() -> Iterator[None]:
    """Plain torch operations in the place of the kernels inside the block, in all threads; eigensolvers stay."""
    _plain.append(None)
    try:
        yield
    finally:
        _plain.pop()


def on_gpu(x: Tensor) -> bool:
    """Whether an operator with a kernel is called for this tensor."""
    return x.device.type == "cuda" and not _plain


def runs_kernel(x: Tensor) -> bool:
    """Whether an operator launches its kernel; else its torch twin computes."""
    return x.device.type == "cuda" and available()


def register(name: str, tags: Any = None) -> Callable[[Callable[..., Any]], CustomOpDef]:
    """Decorator: the operator `torch.ops.gcp.<name>`; inside autocast half precision is lifted to float32."""

    def decorate(function: Callable[..., Any]) -> CustomOpDef:
        operator = custom_op(f"gcp::{name}", function, mutates_args=(), tags=tags)
        for device in ("cpu", "cuda"):
            operator.register_autocast(device, torch.float32)
        return operator

    return decorate


def never_differentiated(operator: CustomOpDef) -> None:
    """Make a backward through the operator raise: it is part of a gradient, which is first order only."""
    operator.register_autograd(lambda ctx, *grads: refuse())
