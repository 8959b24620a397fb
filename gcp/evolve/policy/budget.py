"""What a model costs, the budget that it may have, and the decisions that bring it there.

    parameters   their number
    flops        2 x multiplications of all convolutions and linear layers for one image
    MiB          weights, and the outputs of all convolutions, linear and normalisation layers for one image

How many positions the map of a layer has does not depend on widths. One forward pass of one image counts them, and then
the cost of the model with any widths follows from the graph of its channels, without building it.

For a budget each dimension is shrunk by as much as one edit may, on a copy: the relative change of the outputs over
what it saves is the price of its units. Above the budget the cheapest shrink, below it the dearest grow, as far as the
schedule of the budget asks: from what the model costs now to the bound in equal ratios, one at each event left.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gcp.errors import OptionError, nearest
from gcp.evolve.calls import at_rest
from gcp.evolve.channel_graph.dimension import Dimension
from gcp.evolve.parametrized import plain_weights
from gcp.evolve.shrinking import shrink

UNITS = ("parameters", "flops", "MiB")
FORM = re.compile(r"\s*(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(%|[kMG](?![A-Za-z]))?\s*([A-Za-z]+)\s*")
PREFIXES = {"k": 1e3, "M": 1e6, "G": 1e9}
MIB = 2**20


CostFunction = Callable[[Mapping[str, int]], float]  # of the model with these widths, all others as they are


class Decision(NamedTuple):
    """A dimension is to have another width."""

    dimension: str
    before: int
    after: int
    why: str


@dataclass(frozen=True)
class Bounds:
    """How far a width may go: at least `least`, at most `most`, by at most `factor` in one edit, but always by a unit.

    A width that begins outside `least` and `most` may come nearer, and is not forced to. `step`: of the dimension, of
    which a width is a multiple.
    """

    least: int = 8
    most: int | None = None
    factor: float = 1.5

    def of(self, dimension: Dimension) -> "Bounds":
        """Those of a dimension: heads are no channels, one may be left and any number come."""
        return replace(self, least=1, most=None) if dimension.of_heads else self

    def lowest(self, before: int, step: int = 1) -> int:
        """The width that any number of edits may reach from `before`."""
        return min(before, -(-self.least // step) * step)

    def shrunk(self, before: int, wanted: int, step: int = 1) -> int:
        """The width nearest to `wanted` < `before` that one edit may reach; `before` where there is none."""
        lowest = min(before - step, math.ceil(before / self.factor))
        return min(before, -(-max(wanted, lowest, self.least) // step) * step)

    def grown(self, before: int, wanted: int, step: int = 1) -> int:
        """The width nearest to `wanted` > `before` that one edit may reach; `before` where there is none."""
        highest = max(before + step, math.floor(before * self.factor))
        return max(before, min(wanted, highest, self.most or highest) // step * step)


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
        with plain_weights(model):
            self.counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
            self.layers = _positions(model, image)
        self.bytes = next(model.parameters()).element_size()
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

    def _channels(self, layer: "CostedLayer") -> int:
        layout = self.axes.get((layer.weight, 0))
        return layout.size if layout else layer.channels


@dataclass(frozen=True)
class CostedLayer:
    """A call of a layer: name and size of its weight, and the positions and channels of its output for one image."""

    weight: str
    size: int  # for weights that are computed from others, whose widths stay
    positions: int
    channels: int
    multiplies: bool


def _positions(model: nn.Module, image: Tensor) -> list[CostedLayer]:
    """Every call of a layer that multiplies, or leaves a map behind."""
    found: list[CostedLayer] = []

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            channels = output.shape[-1] if isinstance(module, nn.Linear) else output.shape[1]
            multiplies = not isinstance(module, _BatchNorm)
            size = module.weight.numel() if multiplies else 0  # type: ignore[operator]
            found.append(CostedLayer(f"{name}.weight", size, output[:1].numel() // channels, channels, multiplies))

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


class Price(NamedTuple):
    """By how much the outputs change, over their norm, when a dimension is shrunk, and what that saves."""

    error: float
    saved: float

    @property
    def of_a_unit(self) -> float:
        return self.error / max(self.saved, 1e-30)

    def __str__(self) -> str:
        return f"{self.error:.2g} of the outputs for {amount(self.saved)}"


def amount(cost: float) -> str:
    """Whole numbers of parameters and FLOPs, three digits of MiB."""
    return f"{cost:,.0f}" if cost >= 1000 else f"{cost:.3g}"


def prices(
    model: nn.Module,
    dimensions: Mapping[str, Dimension],
    images: Sequence[Tensor],
    costs: CostFunction,
    factor: float,
    beat: Callable[[], None] = lambda: None,
) -> dict[str, Price]:
    """Of each dimension of a width above its step, by shrinking a copy of the model to 1 / `factor` of it."""
    found, present = {}, costs({})
    trial = Bounds(least=1, factor=factor)
    for name, dimension in dimensions.items():
        after = trial.shrunk(dimension.width, 1, dimension.step)
        if after < dimension.width:
            beat()
            report = shrink(deepcopy(model), name, after, images)
            assert report.error is not None  # there are images
            found[name] = Price(report.error, present - costs({name: after}))
    return found


def by_budget(
    found: Mapping[str, Price],
    dimensions: Mapping[str, Dimension],
    costs: CostFunction,
    target: float,
    bounds: Bounds,
    unit: str,
) -> list[Decision]:
    """The edits that bring the cost to `target`, or as near to it as one edit of each dimension may.

    Args:
        found: price of each dimension.
        dimensions: that may change.
        costs: of other widths.
        target: above what the model costs now the dearest grow, below it the cheapest shrink.
        bounds: of the widths.
        unit: of the cost, for the reasons.
    """
    present = costs({})
    shrinks = target < present
    chosen: dict[str, int] = {}
    decisions = []
    for name in sorted(found, key=lambda name: found[name].of_a_unit, reverse=not shrinks):
        if shrinks and costs(chosen) <= target:
            break
        dimension = dimensions[name]
        before, step = dimension.width, dimension.step
        own = bounds.of(dimension)
        far = own.shrunk(before, 1, step) if shrinks else own.grown(before, 10 * before, step)
        choices = range(far, before, step) if shrinks else range(before + step, far + 1, step)
        # Costs rise with the width: the largest one that fits; where none does, the smallest that may be.
        fitting = bisect_left(choices, True, key=lambda width: costs({**chosen, name: width}) > target)
        if not choices or (fitting == 0 and not shrinks):
            continue
        chosen[name] = choices[max(0, fitting - 1)]
        why = f"{amount(present)} {unit}, {amount(target)} are asked for; on trial {found[name]}"
        decisions.append(Decision(name, before, chosen[name], why))
    return decisions
