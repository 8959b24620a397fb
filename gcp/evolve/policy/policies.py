"""Who decides on widths: by the singular values of each (`SpectrumPolicy`), or by a budget for all (`BudgetPolicy`).

A policy is called with the model, images as it takes them and the number of events that are left, this one included;
it changes nothing and answers with decisions, which are plain data.

Singular values say how much of a width is used. Of the activations: A (samples, width) is what the layers that read a
dimension see, a row for every position of every image, less its mean where they take up a constant. Its singular values
are the roots of the eigenvalues of A^T A, which is summed over these layers, each scaled to the same trace. As many
units as there are zeros among them can be replaced exactly by the others, after a change of the weights that read them.
Of the weights: W (width, inputs) are the weights that write a dimension side by side, each scaled to the same norm. A
unit then counts as superfluous even where a ReLU behind it makes it useful. Of residual blocks: `residual`.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from gcp.errors import OptionError, UnknownNameError
from gcp.evolve.calls import LayerCall
from gcp.evolve.channel_graph.dimension import Dimension, Triangle
from gcp.evolve.channel_graph.graph import ROWS, Axis
from gcp.evolve.channel_graph.tracer import trace
from gcp.evolve.choose import pooled_maps
from gcp.evolve.heads import measure, width_values
from gcp.evolve.parametrized import plain_weights
from gcp.evolve.policy.budget import Bounds, Costs, Decision, amount, by_budget, prices


def by_spectrum(
    values: Mapping[str, Tensor],
    dimensions: Mapping[str, Dimension],
    bounds: Bounds,
    shrink_below: float,
    grow_above: float,
    largest: Mapping[str, float] | None = None,
) -> list[Decision]:
    """Shrink what has negligible singular values by their number; grow what has none that is small.

    Args:
        values: of each dimension its singular values, (n,) descending, n <= width.
        dimensions: the same.
        bounds: of the widths.
        shrink_below: values below this part of the largest are negligible.
        grow_above: a width grows whose smallest value is above this part of the largest.
        largest: what stands for the largest value of some dimensions.
    """
    decisions = []
    for name, singular in values.items():
        before, step = dimensions[name].width, dimensions[name].step
        own = bounds.of(dimensions[name])
        top = (largest or {}).get(name, float(singular[0]))
        parts = singular / max(top, torch.finfo(singular.dtype).tiny)
        negligible, smallest, after = int((parts < shrink_below).sum()), float(parts[-1]), before
        if negligible:
            after = own.shrunk(before, before - negligible, step)
            why = f"{negligible} of {len(parts)} singular values below {shrink_below:g} of the largest"
        elif smallest > grow_above:
            after = own.grown(before, 10 * before, step)
            why = f"smallest singular value {smallest:.2g} of the largest, above {grow_above:g}"
        if after != before:
            decisions.append(Decision(name, before, after, why))
    return decisions


def activation_values(
    model: nn.Module, dimensions: Mapping[str, Dimension], images: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Singular values of the activations, float64 on the CPU, (min(width, samples),) descending.

    `images`: batches (B, C, H, W). The model computes in evaluation mode, and has its modes back afterwards.
    """
    heads = _of_heads(model, dimensions, images)
    others = {name: dimension for name, dimension in dimensions.items() if name not in heads}
    moments = {(name, axis.tensor): _Moments() for name, d in others.items() for axis in d.graph.readers(d)}
    for batch in images:
        _look(model, others, batch, moments)
    return {
        name: heads[name] if name in heads else _values([moments[key] for key in moments if key[0] == name])
        for name in dimensions
    }


def _of_heads(model: nn.Module, dimensions: Mapping[str, Dimension], images: Sequence[Tensor]) -> dict[str, Tensor]:
    """The values of heads, by what they add to the output, and of their channels, in the basis in which they go."""
    found = {name: attention for name, d in dimensions.items() if (attention := d.graph.attention_of(d)) is not None}
    if not found:
        return {}
    graph = next(iter(dimensions.values())).graph
    unique = list({id(attention): attention for attention in found.values()}.values())
    moments = {id(a): m for a, m in zip(unique, measure(model, graph, unique, images), strict=True)}
    values = {}
    for name, attention in found.items():
        seen, dimension = moments[id(attention)], dimensions[name]
        if seen is not None and dimension.of_heads:
            values[name] = torch.linalg.eigvalsh(seen.gram()).flip(0).clamp_min(0).sqrt()
        elif seen is not None:
            values[name] = width_values(attention, dimension, seen)[: seen.samples]
    return values


def _look(
    model: nn.Module, dimensions: Mapping[str, Dimension], batch: Tensor, moments: "dict[tuple[str, str], _Moments]"
) -> None:
    """Add what the readers see of one batch; of channels that a head pools, what it pools."""
    readers = [(name, d, axis) for name, d in dimensions.items() for axis in d.graph.readers(d)]
    of_layers: dict[str, list[tuple[str, Dimension, Axis]]] = {}
    for reader in readers:
        of_layers.setdefault(reader[2].tensor, []).append(reader)

    def visit(call: LayerCall, compute: Callable[[], Tensor]) -> Tensor:
        for name, dimension, axis in of_layers[call.name]:
            if not isinstance(axis.layout, Triangle):
                rows = call.channels()[:, axis.layout.places(dimension).to(call.x.device)]
                # A bias, or a batch norm behind the layer, takes up a constant.
                centred = call.bias is not None or call.name in dimension.graph.norms
                moments[name, call.name].add(rows, centred)
        return compute()

    heads = [axis.layout.head for _, _, axis in readers if isinstance(axis.layout, Triangle)]
    maps = pooled_maps(model, batch, heads, list(of_layers), visit)
    for name, dimension, axis in readers:
        if isinstance(axis.layout, Triangle):
            x = maps[axis.layout.head]
            x = (x - x.mean(2, keepdim=True))[:, axis.layout.channels.places(dimension).to(x.device)]
            moments[name, axis.tensor].add(x.permute(0, 3, 1, 2).flatten(0, 1), False)


class _Moments:
    """Second moments of the channels of rows (n, width, r) that are added, summed over r, which are the positions of a
    flattened map. `centred`: about the mean of each entry.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.sums: Tensor | float = 0.0
        self.products: Tensor | float = 0.0

    def add(self, rows: Tensor, centred: bool) -> None:
        self.samples += len(rows)
        flat = rows.transpose(1, 2).flatten(0, 1)
        self.products = self.products + (flat.mT @ flat).cpu()
        self.sums = self.sums + rows.sum(0).cpu() * centred

    def scaled(self) -> Tensor:
        """At a trace of 1."""
        assert isinstance(self.products, Tensor) and isinstance(self.sums, Tensor)
        found = self.products - self.sums @ self.sums.mT / self.samples
        return found / found.trace().clamp_min(1e-300)


def _values(parts: Sequence[_Moments]) -> Tensor:
    total = torch.stack([part.scaled() for part in parts]).sum(0)
    eigenvalues = torch.linalg.eigvalsh(total).flip(0).clamp_min(0)
    return eigenvalues.sqrt()[: max(part.samples for part in parts)]


@torch.no_grad()
def weight_values(model: nn.Module, dimensions: Mapping[str, Dimension], images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Singular values of the producers' weights, float64 on the CPU, (min(width, inputs),) descending."""
    values = {}
    for name, dimension in dimensions.items():
        writes = [axis for axis in dimension.graph.touching(dimension) if axis.role == ROWS]
        matrices = [axis.entries(model, dimension).double().flatten(1) for axis in writes]
        scaled = [matrix / matrix.norm().clamp_min(1e-300) for matrix in matrices]
        values[name] = torch.linalg.svdvals(torch.cat(scaled, 1)).cpu()
    return values


SIGNALS: dict[str, Callable[..., dict[str, Tensor]]] = {"activations": activation_values, "weights": weight_values}


log = logging.getLogger("gcp")

Policy = Callable[[nn.Module, Sequence[Tensor], int], list[Decision]]


@dataclass(frozen=True)
class SpectrumPolicy:
    """Each width by its singular values; see the head of this file."""

    where: tuple[str, ...]
    bounds: Bounds
    signal: str = "activations"
    shrink_below: float = 0.1
    grow_above: float = 0.15

    def __call__(self, model: nn.Module, images: Sequence[Tensor], events_left: int) -> list[Decision]:
        with plain_weights(model):
            return self._decide(model, images)

    def _decide(self, model: nn.Module, images: Sequence[Tensor]) -> list[Decision]:
        dimensions = chosen(model, trace(model, images[0][:1]), self.where)
        if self.signal == "residual":
            from gcp.evolve.policy.residual import residual_values

            blocks = residual_values(model, dimensions)
            values = weight_values(model, dimensions, images) | {name: found[0] for name, found in blocks.items()}
            largest = {name: found[1] for name, found in blocks.items()}
        else:
            values, largest = SIGNALS[self.signal](model, dimensions, images), {}
        return by_spectrum(values, dimensions, self.bounds, self.shrink_below, self.grow_above, largest)


@dataclass(frozen=True)
class BudgetPolicy:
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
