"""Who decides on widths: by the spectrum of each, or by a budget for all.

A policy is called with the model, images as it takes them and the number of events that are left, this one included;
it changes nothing and answers with decisions, which are plain data.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from gcp.errors import OptionError, UnknownNameError
from gcp.evolve.policy.budget import amount, by_budget, prices
from gcp.evolve.policy.cost import Costs
from gcp.evolve.policy.decision import Bounds, Decision
from gcp.evolve.policy.spectrum import SIGNALS, by_spectrum
from gcp.evolve.ties.dimension import Dimension
from gcp.evolve.ties.tracer import trace

log = logging.getLogger("gcp")

Policy = Callable[[nn.Module, Sequence[Tensor], int], list[Decision]]


@dataclass(frozen=True)
class Spectrum:
    """Each width by its singular values; see `gcp.evolve.policy.spectrum`."""

    where: tuple[str, ...]
    bounds: Bounds
    signal: str = "activations"
    shrink_below: float = 0.1
    grow_above: float = 0.15

    def __call__(self, model: nn.Module, images: Sequence[Tensor], events_left: int) -> list[Decision]:
        dimensions = chosen(model, trace(model, images[0][:1]), self.where)
        values = SIGNALS[self.signal](model, dimensions, images)
        return by_spectrum(values, dimensions, self.bounds, self.shrink_below, self.grow_above)


@dataclass(frozen=True)
class WithinBudget:
    """All widths by what the model may cost after the last event; see `gcp.evolve.policy.budget`."""

    where: tuple[str, ...]
    bounds: Bounds
    bound: float
    unit: str = "parameters"
    beat: Callable[[], None] = lambda: None  # called before every trial: other processes may be waiting

    def __call__(self, model: nn.Module, images: Sequence[Tensor], events_left: int) -> list[Decision]:
        every = trace(model, images[0][:1])
        dimensions = chosen(model, every, self.where)
        costs = Costs(model, every, images[0][:1], self.unit)
        present = costs({})
        target = present * (self.bound / present) ** (1 / events_left)
        found = prices(model, dimensions, images, costs, self.bounds.factor, self.beat)
        decisions = by_budget(found, dimensions, costs, target, self.bounds, self.unit)
        reached = costs({decision.dimension: decision.after for decision in decisions})
        if events_left == 1 and reached > self.bound:
            log.warning(
                "evolve.budget: the model costs %s %s at the last event, %s were asked for; more events "
                "(evolve.every), a larger evolve.factor or a smaller evolve.min_width would bring it nearer",
                *(amount(reached), self.unit, amount(self.bound)),
            )
        return decisions


def chosen(model: nn.Module, dimensions: Mapping[str, Dimension], where: Iterable[str]) -> dict[str, Dimension]:
    """The dimensions that can be edited, are trained, and fit one of the patterns (all where there is none): a part of
    the model that they begin in, their name, or a shell pattern of it. Names of the backbone do without `body`.

    Raises:
        UnknownNameError: a pattern that no dimension fits.
        OptionError: none of those that fit can be edited.
    """
    found: dict[str, Dimension] = {}
    where = tuple(where) or ("*",)
    for pattern in where:
        fitting = {name: each for name, each in dimensions.items() if _fits(name, pattern)}
        if not fitting and pattern not in ("features", "head", "classifier"):
            known = ["features", "head", *(name for name, each in dimensions.items() if each.editable)]
            raise UnknownNameError("width", pattern, known)
        found |= fitting
    fixed = {name: each.reason or _frozen(model, each) for name, each in found.items()}
    if all(fixed.values()):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(fixed.items())[:3])
        raise OptionError(f"evolve.where: no width of {', '.join(where)} can change: {reasons or 'there is none'}")
    return {name: each for name, each in dimensions.items() if name in found and not fixed[name]}


def _fits(name: str, pattern: str) -> bool:
    names = (name, name.replace("features.body.", "features.", 1))
    return any(each == pattern or each.startswith(f"{pattern}.") or fnmatchcase(each, pattern) for each in names)


def _frozen(model: nn.Module, dimension: Dimension) -> str | None:
    """The first layer around a dimension that is not trained: its weights are to stay as they are."""
    for layer in (*dimension.producers, *dimension.consumers):
        if not any(parameter.requires_grad for parameter in model.get_submodule(layer).parameters()):
            return f"{layer} is frozen"
    return None
