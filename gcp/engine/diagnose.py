"""Find the layer in which a number stopped being finite, by running a batch again under observation.

Slow (one synchronisation per layer), and only done once a run has failed.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import GCPError


class Observer:
    """Hooks on every module that note the first non-finite output and gradient, and which modules are at work."""

    def __init__(self, model: nn.Module):
        self.stack: list[str] = []
        self.output: str | None = None
        self.finite_gradients: list[str] = []
        self.gradient: str | None = None
        self._handles = []
        for name, module in model.named_modules():
            name = name or type(module).__name__
            self._handles.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave(name)))

    def remove(self) -> None:
        """Take the hooks off again."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            self.stack.append(name)
            if self.output is None and not all(_finite(value) for value in args):
                self.output = f"the input of {name}"

        return hook

    def _leave(self, name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            self.stack.pop()
            if self.output is None and not _finite(output):
                self.output = f"the output of layer {name} ({type(module).__name__})"
            if isinstance(output, Tensor) and output.requires_grad:
                output.register_hook(lambda gradient: self._note_gradient(name, gradient))

        return hook

    def _note_gradient(self, name: str, gradient: Tensor) -> None:
        if self.gradient is None and not _finite(gradient):
            after = f", in the backward of layer {self.finite_gradients[-1]}" if self.finite_gradients else ""
            self.gradient = f"the gradient at the output of layer {name}{after}"
        self.finite_gradients.append(name)


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor) and value.is_floating_point():
        return bool(torch.isfinite(value).all())
    return True


def locate(model: nn.Module, images: list[Tensor], compute: Callable[[], Any]) -> str:
    """Where the first non-finite number appears while `compute()` runs `model` forward and backward.

    Args:
        model: the module that `compute` calls.
        images: the inputs, looked at first.
        compute: runs forward and backward again; what it raises is noted, not passed on.

    Returns:
        words such as `the output of layer features.layer1.0.conv2 (Conv2d)`.
    """
    for batch in images:
        if not _finite(batch):
            bad = (~torch.isfinite(batch.flatten(1)).all(1)).nonzero().flatten().tolist()
            return f"the input images (samples {', '.join(map(str, bad[:8]))} of the batch)"
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return f"the weights: {name}"
    model.zero_grad(set_to_none=True)
    observer, raised = Observer(model), None
    try:
        compute()
    except (GCPError, ArithmeticError, RuntimeError):
        raised = observer.stack[-1] if observer.stack else None
    finally:
        observer.remove()
    if observer.output:
        return observer.output
    if raised:
        return f"layer {raised}"
    if observer.gradient:
        return observer.gradient
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not _finite(parameter.grad):
            return f"the gradient of the weights {name}"
    return "the loss itself: every layer of a second run of the batch was finite"
