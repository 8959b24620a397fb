"""The state of an optimizer, carried over to parameters of another shape: momentum, moments of Adam and their like.

A tensor of the parameter's shape is cut and padded as the parameter is, new entries are zero; a single number, such as
the count of steps, stays.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gcp.errors import OptionError


class Moments:
    """What an optimizer keeps of its parameters.

    Args:
        optimizer: any of torch's kind; None where there is none.
        names: id of a parameter -> its name, of all those that are about to change.

    Raises:
        OptionError: it keeps tensors of other shapes, of which nobody can tell the channels, or lists of tensors.
    """

    def __init__(self, optimizer: torch.optim.Optimizer | None, names: dict[int, str]):
        self.optimizer = optimizer
        groups = optimizer.param_groups if optimizer is not None else []
        for parameter in (p for group in groups for p in group["params"] if id(p) in names):
            for key, value in self._state(parameter).items():
                if not _single(value) and not _alike(value, parameter):
                    shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                    raise OptionError(
                        f"optimizer {type(optimizer).__name__} keeps {key!r} of {names[id(parameter)]} as {shape}, not "
                        f"in its shape {tuple(parameter.shape)}: it cannot follow a change of widths. Those that can "
                        "are sgd, adam, adamw and others with one value for each weight"
                    )

    def _state(self, parameter: Tensor) -> dict[str, Any]:
        assert self.optimizer is not None
        return self.optimizer.state.get(parameter, {})

    def carry(self, old: Tensor, new: Tensor, cut: Callable[[Tensor], Tensor]) -> None:
        """`new` takes the place of `old`; `cut` maps a tensor of the old shape to one of the new."""
        if self.optimizer is None:
            return
        for group in self.optimizer.param_groups:
            group["params"][:] = [new if parameter is old else parameter for parameter in group["params"]]
        state = self.optimizer.state.pop(old, None)
        if state is not None:
            self.optimizer.state[new] = {k: cut(v) if _alike(v, old) else v for k, v in state.items()}


def _single(value: object) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, bool | int | float | str | None)


def _alike(value: object, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape
