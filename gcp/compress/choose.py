"""Which rank each layer of a plan gets: every layer by itself, or all of them under one bound."""

from dataclasses import dataclass

import torch
from torch import nn

from gcp.compress.basis import Basis
from gcp.compress.factored import Factored, Ranks, create_factored
from gcp.compress.ranks import Candidates, Spread, by_ratio, spread
from gcp.compress.report import LayerReport
from gcp.compress.statistics import Statistics
from gcp.compress.survey import SurveyedLayer
from gcp.errors import OptionError


@dataclass
class LayerPlan:
    """One layer on its way."""

    layer: SurveyedLayer
    row: LayerReport
    statistics: Statistics
    unseen: Statistics
    basis: Basis | None = None
    choices: Candidates | None = None
    new: Factored | None = None


def count(model: nn.Module, dense: bool = False) -> int:
    """Parameters of a model, each once; `dense`: with every factored layer as wide as it was."""
    total = numbers(model)
    factored = [module for module in model.modules() if isinstance(module, Factored)] if dense else []
    for module in factored:
        bias = 0 if module.bias is None else module.bias.numel()
        total += torch.Size(module.shape).numel() + bias - numbers(module)
    return total


def numbers(module: nn.Module) -> int:
    """Parameters, without those of lazy layers that have no shape yet."""
    return sum(p.numel() for p in module.parameters() if not isinstance(p, nn.UninitializedParameter))


def row_of(layer: SurveyedLayer) -> LayerReport:
    """What is known of a layer beforehand."""
    module = layer.module
    row = LayerReport(layer.name, layer.kind, len(layer.names), 0, 0, reason=layer.reason or "")
    row.parameters = row.parameters_after = numbers(module)
    if isinstance(module, Factored):
        row.rank = "x".join(map(str, module.ranks))
    weight = module.weight if hasattr(module, "weight") else None
    if weight is not None and not isinstance(weight, nn.UninitializedParameter):
        row.m, row.n = weight.shape[0], weight.shape[1:].numel()
    return row


def still_open(plans: list[LayerPlan]) -> list[LayerPlan]:
    """Those that nothing speaks against so far."""
    return [plan for plan in plans if not plan.row.reason]


def factor(plan: LayerPlan, ranks: Ranks) -> None:
    """Make the factors of these ranks."""
    assert plan.basis is not None and plan.choices is not None
    plan.new = create_factored(plan.layer.module, ranks)
    plan.basis.fill(plan.new)
    plan.row.rank = "x".join(map(str, ranks))
    plan.row.estimated = float(plan.choices.errors[plan.choices.ranks.index(ranks)]) ** 0.5


def each(plans: list[LayerPlan], target: str, value: float, force: bool) -> None:
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


def together(plans: list[LayerPlan], target: str, value: float, present: int, parameters: int) -> float:
    """Ranks for all layers under one bound; returns how much better another choice might be (`Spread.gap`)."""
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
        found = _within(paying, value, present - dense, parameters)
    else:
        found = spread(paying, error=value**2)
    unfactored = all(place is None for place in found.choice.values())
    for plan in still_open(plans):
        place = found.choice[plan.layer.name]
        if place is not None:
            factor(plan, paying[plan.layer.name].ranks[place])
        elif unfactored:
            plan.row.reason = "the bound leaves every layer as it is"
        else:
            plan.row.reason = "the bound is better spent on it as it is" if not found.gap else "the bound leaves it so"
    return found.gap


def _within(paying: dict[str, Candidates], value: float, fixed: int, parameters: int) -> Spread:
    budget = value * parameters - fixed
    dense = sum(layer.dense for layer in paying.values())
    least = sum(int(layer.sizes[0]) for layer in paying.values())
    if dense <= budget:
        return Spread(dict.fromkeys(paying), 0.0)
    if least > budget:
        raise OptionError(
            f"params={value:g} cannot be met: {fixed:,} of {parameters:,} parameters are in what is not factored, and "
            f"rank 1 everywhere needs {least:,} more. Give at least params={(fixed + least) / parameters:.3g}"
        )
    return spread(paying, budget=budget)
