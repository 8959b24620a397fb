"""Which ranks: for every layer by itself, or for all of them under one bound."""

from gcp.compress.budget import Choice, spread
from gcp.compress.candidates import Candidates, by_ratio
from gcp.compress.factored import Factored
from gcp.compress.plan import Plan, factor, still_open
from gcp.errors import OptionError


def each(plans: list[Plan], target: str, value: float, force: bool) -> None:
    """A rank for every layer by itself."""
    for plan in still_open(plans):
        assert plan.basis is not None and plan.choices is not None
        if target == "energy":
            place = plan.choices.smallest(1 - value)
            ranks = plan.choices.ranks[len(plan.choices.ranks) - 1 if place is None else place]
        else:
            full = len(plan.basis.energies)
            ranks = (min(int(value), full) if target == "rank" else by_ratio(plan.basis, value),)
        size = plan.choices.sizes[plan.choices.ranks.index(ranks)]
        if size >= plan.choices.dense and not force:
            plan.row.reason = f"rank {'x'.join(map(str, ranks))} has {size:,} weights, the layer {plan.choices.dense:,}"
            continue
        factor(plan, ranks)


def together(plans: list[Plan], target: str, value: float, present: int, parameters: int) -> None:
    """Ranks for all layers under one bound."""
    if target == "error" and any(isinstance(plan.layer.module, Factored) for plan in plans):
        for plan in still_open(plans):
            plan.row.reason = "the bound is spent on the layers factored already"
    paying: dict[str, Candidates] = {}
    for plan in still_open(plans):
        assert plan.choices is not None
        smaller = plan.choices.smaller()
        if smaller.ranks:
            paying[plan.layer.name] = smaller
        else:
            plan.row.reason = "no rank has fewer weights than the layer"
    dense = sum(layer.dense for layer in paying.values())
    if target == "params":
        choice = _within(paying, value, present - dense, parameters)
    else:
        choice = spread(paying, error=value**2)
    for plan in still_open(plans):
        place = choice[plan.layer.name]
        if place is None:
            plan.row.reason = "the bound is better spent on it as it is"
        else:
            factor(plan, paying[plan.layer.name].ranks[place])


def _within(paying: dict[str, Candidates], value: float, fixed: int, parameters: int) -> Choice:
    budget = value * parameters - fixed
    dense = sum(layer.dense for layer in paying.values())
    least = sum(int(layer.sizes[0]) for layer in paying.values())
    if dense <= budget:
        return dict.fromkeys(paying)
    if least > budget:
        raise OptionError(
            f"params={value:g} cannot be met: {fixed:,} of {parameters:,} parameters are in what is not factored, and "
            f"rank 1 everywhere needs {least:,} more. Give at least params={(fixed + least) / parameters:.3g}"
        )
    return spread(paying, budget=budget)
