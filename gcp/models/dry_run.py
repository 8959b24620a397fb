"""Dry runs: the shapes that a network produces, without computing anything.

The parameters and buffers are replaced by tensors of the meta device for one call, so neither the weights,
the batch statistics nor the random state change, and a network of any size costs milliseconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


@dataclass(frozen=True)
class MapCall:
    """One call of a sub-module: its name and the side lengths (h, w) of what it read and wrote."""

    name: str
    read: tuple[int, int]
    wrote: tuple[int, int]


@dataclass(frozen=True)
class DryRun:
    """What one dry run saw.

    `output` is the output on the meta device, `calls` the calls on maps in order, `used` the names of the
    modules that were called or whose parameters a gradient reached.
    """

    output: Any
    calls: tuple[MapCall, ...]
    used: frozenset[str]

    def idle(self, parent: nn.Module, prefix: str) -> list[str]:
        """Children of `parent` whose parameters took no part: the classifier that a backbone leaves out."""

        def took_part(name: str) -> bool:
            return any(f"{used}.".startswith(f"{prefix}{name}.") for used in self.used)

        children = [name for name, child in parent.named_children() if list(child.parameters())]
        return [name for name in children if not took_part(name)]


def _side(value: object) -> tuple[int, int] | None:
    return (value.shape[-2], value.shape[-1]) if isinstance(value, Tensor) and value.ndim == 4 else None


def _leaves(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list | tuple) else []


def dry_run(model: nn.Module, in_chans: int, size: tuple[int, int], backward: bool = False) -> DryRun:
    """MapCall `model` on one image (1, in_chans, *size) of the meta device, in eval mode.

    With `backward` also backward, which `DryRun.idle` needs to see parameters that no call shows. Whatever
    the model raises (an image too small, say) is passed on.
    """
    calls: list[MapCall] = []
    used: set[str] = set()

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, output: object) -> None:
            used.add(name)
            read, wrote = _side(args[0]) if args else None, _side(output)
            if read and wrote:
                calls.append(MapCall(name, read, wrote))

        return hook

    tensors = (*model.named_parameters(), *model.named_buffers())
    state = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    for name, parameter in model.named_parameters():
        state[name].requires_grad_(parameter.requires_grad and backward)
    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.set_grad_enabled(backward):
            output = functional_call(model, state, (torch.empty(1, in_chans, *size, device="meta"),))
            for leaf in _leaves(output):
                if leaf.requires_grad:
                    leaf.sum().backward(retain_graph=True)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    used |= {key.rpartition(".")[0] for key, tensor in state.items() if tensor.grad is not None}
    return DryRun(output, tuple(calls), frozenset(used))
