"""Channels under a layer norm, as the width of a transformer: how their number changes and outputs do not.

    LN(x) = w (x - m) / sqrt(var + eps) + b,    m, var: mean and variance of the d channels of x

Zeros beside x would move both. A new channel is therefore the mean of the others: every layer, bias and token that
writes x writes it, for each of them is linear. Then with k of them the mean stays, the variance becomes r var with
r = d / (d + k), and the norm of x is the old one over sqrt(r), exactly where eps becomes r eps. The weight takes up
sqrt(r), the new channels are zero behind the norm whatever reads them, and so what reads them there is drawn at random:
it is by this that a gradient reaches what writes them. Without a norm they are read with zeros, as elsewhere.

A branch that a vector g scales (layer scale) writes g_i y_i: the new channel is the mean of these over mean |g|, which
is its new entry. Shrinking corrects weight and eps alike; the moments of the channels that are left are others, and the
layers that read them are refitted.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gcp.evolve.channel_graph.dimension import Dimension
from gcp.evolve.channel_graph.graph import COLUMNS, ROWS, ZEROS


@torch.no_grad()
def keep_norms(models: Sequence[nn.Module], dimension: Dimension, source: Tensor, before: int) -> None:
    """After an edit of `dimension`: layer norms give what they gave where channels are new, and the same scale where
    some are gone; in place.

    `source` as in `gcp.evolve.edit.edit`, `before` the old width. What reads new channels is drawn for the first of the
    models, from torch's global generator, and is the same in the others.
    """
    graph = dimension.graph
    norms = [norm for norm in graph.layer_norms if norm.layout.dimensions[0] is dimension]
    fresh = source < 0
    for number, model in enumerate(models if norms else []):
        for norm in norms:
            weight = model.get_parameter(norm.weight)
            weight[fresh] = weight[~fresh].mean()
            weight.mul_((before / len(source)) ** 0.5)
        if not fresh.any():
            continue
        own = {name for norm in norms for name in (norm.weight, norm.bias)}
        scales = {weight.rpartition(".")[0]: name for weight, name in graph.scaled.items()}
        for axis in graph.touching(dimension):
            entries = getattr(model.get_submodule(axis.module), axis.tensor.rpartition(".")[2]).transpose(0, axis.axis)
            new, old = axis.layout.index(dimension, source) < 0, axis.layout.index(dimension, source) >= 0
            if axis.role == COLUMNS and axis.tensor in graph.behind_norm:
                if number:
                    first = models[0].get_parameter(axis.tensor).transpose(0, axis.axis)
                    entries[new] = first[new].to(entries)
                else:
                    entries[new] = torch.randn_like(entries[new]) * entries[old].square().mean().sqrt()
            elif axis.role in (ROWS, ZEROS) and axis.tensor not in own:
                scale = _scale(model, scales.get(axis.module), fresh)
                weights = torch.ones(int(old.sum())) if scale is None else scale
                shaped = weights.to(entries).view(-1, *(1,) * (entries.ndim - 1))
                entries[new] = (entries[old] * shaped).mean(0) / weights.abs().mean().clamp(min=1e-30).to(entries)
        for name in set(scales.values()):
            held = next(axis for axis in graph.axes.values() if axis.tensor == name)
            if dimension in held.layout.dimensions:
                entries = model.get_parameter(name).transpose(0, held.axis)
                entries[fresh] = entries[~fresh].abs().mean(0)


def _scale(model: nn.Module, name: str | None, fresh: Tensor) -> Tensor | None:
    """What scales the channels that were there, (before,), of the layers of a module."""
    return None if name is None else model.get_parameter(name).detach().flatten()[~fresh]
