"""One layer on its way from a survey to a factored model."""

from dataclasses import dataclass

import torch
from torch import nn

from gcp.compress.basis import Basis
from gcp.compress.candidates import Candidates
from gcp.compress.factored import Factored, Ranks, create_factored
from gcp.compress.report import Row
from gcp.compress.statistics import Statistics
from gcp.compress.survey import Layer


@dataclass
class Plan:
    """One layer on its way."""

    layer: Layer
    row: Row
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


def row_of(layer: Layer) -> Row:
    """What is known of a layer beforehand."""
    module = layer.module
    row = Row(layer.name, layer.kind, len(layer.names), 0, 0, reason=layer.reason or "")
    row.parameters = row.parameters_after = numbers(module)
    if isinstance(module, Factored):
        row.rank = "x".join(map(str, module.ranks))
    weight = module.weight if hasattr(module, "weight") else None
    if weight is not None and not isinstance(weight, nn.UninitializedParameter):
        row.m, row.n = weight.shape[0], weight.shape[1:].numel()
    return row


def still_open(plans: list[Plan]) -> list[Plan]:
    """Those that nothing speaks against so far."""
    return [plan for plan in plans if not plan.row.reason]


def factor(plan: Plan, ranks: Ranks) -> None:
    """Make the factors of these ranks."""
    assert plan.basis is not None and plan.choices is not None
    plan.new = create_factored(plan.layer.module, ranks)
    plan.basis.fill(plan.new)
    plan.row.rank = "x".join(map(str, ranks))
    plan.row.estimated = float(plan.choices.errors[plan.choices.ranks.index(ranks)]) ** 0.5
