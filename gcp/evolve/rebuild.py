"""A model as it was built takes the shapes of one that has evolved."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gcp.evolve.edit import edit
from gcp.evolve.resolve import publish, resolve


def resize(model: nn.Module, widths: Mapping[str, int], example: Tensor | None = None) -> None:
    """Give the dimensions of `widths` these widths, in place; weights are to be loaded behind it.

    What is left of the weights are the first channels. New channels are written, and unlike those of `grow` read, with
    weights of the scale of the others: of a model that is not trained yet they begin as all do.

    Raises:
        UnknownNameError, OptionError: the model has no such dimensions or widths; nothing is changed.
    """
    if not widths:
        return
    wanted = resolve(model, widths, None, example)
    for dimension, width in wanted:
        if width != dimension.width:
            places = torch.arange(width)
            source = torch.where(places < dimension.width, places, -1)
            fresh = [(axis, axis.layout.index(dimension, source) < 0) for axis in dimension.graph.readers(dimension)]
            edit(model, dimension, source)
            for axis, new in fresh:
                _draw(model.get_parameter(axis.tensor), axis.axis, new)
    publish((model,), wanted)


@torch.no_grad()
def _draw(weight: Tensor, axis: int, new: Tensor) -> None:
    """Give slices of a weight, in place, values of the scale of the others."""
    slices, new = weight.transpose(0, axis), new.to(weight.device)
    if new.any() and not new.all():
        slices[new] = torch.randn_like(slices[new]) * slices[~new].square().mean().sqrt()
