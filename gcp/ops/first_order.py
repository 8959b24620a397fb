"""Custom gradients that are right once and would be silently wrong twice: a double backward must raise.

`torch.autograd.function.once_differentiable` leaves a node without inputs behind; `torch.autograd.grad` never
visits it and returns the gradient of whatever other path there is. The guard stays connected.
"""

from typing import Any, NoReturn

import torch
from torch import Tensor


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
