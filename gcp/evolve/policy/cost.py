"""What a model costs, and the budget that it may have: parameters, FLOPs or memory.

    parameters   their number
    flops        2 x multiplications of all convolutions and linear layers for one image
    MiB          weights, and the outputs of all convolutions, linear and normalisation layers for one image

How many positions the map of a layer has does not depend on widths. One forward pass of one image tells them, and then
the cost of the model with any widths follows from the ties of its tensors, without building it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gcp.errors import OptionError, nearest
from gcp.evolve.calls import at_rest
from gcp.evolve.ties.dimension import Dimension

UNITS = ("parameters", "flops", "MiB")
FORM = re.compile(r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(%|[kMG](?![A-Za-z]))?\s*([A-Za-z]+)\s*")
PREFIXES = {"k": 1e3, "M": 1e6, "G": 1e9}
MIB = 2**20


@dataclass(frozen=True)
class Budget:
    """An upper bound: `amount` of `unit`, or that part of what the model costs at the start."""

    amount: float
    unit: str
    relative: bool = False

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """`20k parameters`, `5e6 flops`, `2 MiB`, `25 % parameters`. Raises OptionError for another form."""
        match = FORM.fullmatch(text)
        allowed = f"a number above 0 and one of {', '.join(UNITS)}, such as 20k parameters or 25 % flops"
        if match is None or not 0 < float(match[1]) < math.inf:
            raise OptionError(f"got {text!r}; allowed: {allowed}")
        unit = next((unit for unit in UNITS if unit.lower() == match[3].lower()), None)
        if unit is None:
            near = nearest(match[3], UNITS)
            hint = f"; did you mean {match[1]} {match[2] or ''}{' ' if match[2] else ''}{near}?" if near else ""
            raise OptionError(f"got {text!r}; allowed: {allowed}{hint}")
        if match[2] == "%":
            return cls(float(match[1]) / 100, unit, relative=True)
        return cls(float(match[1]) * PREFIXES.get(match[2] or "", 1.0), unit)

    def of(self, start: float) -> float:
        """The bound for a model that costs `start` at the start."""
        return self.amount * start if self.relative else self.amount


class Costs:
    """Cost of a model by its widths: `costs({"head.reduction": 16})`, all others as they are.

    Args:
        model: in any mode, which it keeps.
        dimensions: what `trace` found in it.
        image: (1, C, H, W) as the model takes it.
        unit: of `UNITS`.
    """

    def __init__(self, model: nn.Module, dimensions: Mapping[str, Dimension], image: Tensor, unit: str):
        self.dimensions, self.unit = dimensions, unit
        self.counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
        self.bytes = next(model.parameters()).element_size()
        self.layers = _positions(model, image)
        axes = next(iter(dimensions.values())).graph.axes if dimensions else {}
        self.axes = {key: axis.layout for key, axis in axes.items() if key[0] in self.counts}
        self.sizes = {key: layout.size for key, layout in self.axes.items()}

    def __call__(self, widths: Mapping[str, int]) -> float:
        """What the model would cost with these widths."""
        with self._at(widths):
            counts = dict(self.counts)
            for key, layout in self.axes.items():
                counts[key[0]] = counts[key[0]] // self.sizes[key] * layout.size
            if self.unit == "parameters":
                return float(sum(counts.values()))
            if self.unit == "flops":
                multiply = (layer for layer in self.layers if layer.multiplies)
                return float(sum(2 * layer.positions * counts.get(layer.weight, layer.size) for layer in multiply))
            maps = sum(layer.positions * self._channels(layer) for layer in self.layers)
            return self.bytes * (sum(counts.values()) + maps) / MIB

    @contextmanager
    def _at(self, widths: Mapping[str, int]) -> Iterator[None]:
        before = {name: self.dimensions[name].width for name in widths}
        try:
            for name, width in widths.items():
                self.dimensions[name].width = width
            yield
        finally:
            for name, width in before.items():
                self.dimensions[name].width = width

    def _channels(self, layer: "Layer") -> int:
        layout = self.axes.get((layer.weight, 0))
        return layout.size if layout else layer.channels


@dataclass(frozen=True)
class Layer:
    """A call of a layer: name and size of its weight, and the positions and channels of its output for one image."""

    weight: str
    size: int  # for weights that are computed from others, whose widths stay
    positions: int
    channels: int
    multiplies: bool


def _positions(model: nn.Module, image: Tensor) -> list[Layer]:
    """Every call of a layer that multiplies, or leaves a map behind."""
    found: list[Layer] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            channels = output.shape[-1] if isinstance(module, nn.Linear) else output.shape[1]
            multiplies = not isinstance(module, _BatchNorm)
            size = module.weight.numel() if multiplies else 0  # type: ignore[operator]
            found.append(Layer(f"{name}.weight", size, output[:1].numel() // channels, channels, multiplies))

        return module.register_forward_hook(hook)

    kinds = (nn.modules.conv._ConvNd, nn.Linear, _BatchNorm)
    hooks = [watch(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    try:
        with at_rest(model):
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found
