"""All widths together, until the model costs what it may.

Each dimension is shrunk by as much as one edit may, on a copy: the relative change of the outputs over what it saves is
the price of its units. Above the budget the cheapest shrink, below it the dearest grow, as far as the course of the
budget asks: from what the model costs now to the bound in equal ratios, one at each event that is left.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import NamedTuple

from torch import Tensor, nn

from gcp.evolve.policy.decision import Bounds, Decision
from gcp.evolve.shrinking import shrink
from gcp.evolve.ties.dimension import Dimension

Costs = Callable[[Mapping[str, int]], float]  # of the model with these widths, all others as they are


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
    costs: Costs,
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
    costs: Costs,
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
        far = bounds.shrunk(before, 1, step) if shrinks else bounds.grown(before, 10 * before, step)
        choices = range(far, before, step) if shrinks else range(before + step, far + 1, step)
        # Costs rise with the width: the largest one that fits; where none does, the smallest that may be.
        fitting = bisect_left(choices, True, key=lambda width: costs({**chosen, name: width}) > target)
        if not choices or (fitting == 0 and not shrinks):
            continue
        chosen[name] = choices[max(0, fitting - 1)]
        why = f"{amount(present)} {unit}, {amount(target)} are asked for; on trial {found[name]}"
        decisions.append(Decision(name, before, chosen[name], why))
    return decisions
