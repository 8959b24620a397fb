"""An edit, tried on a copy without values before the model is touched."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from gcp.errors import GCPError
from gcp.evolve.edit import edit
from gcp.evolve.moments import Moments
from gcp.evolve.ties.dimension import Dimension
from gcp.evolve.ties.tracer import trace


def rehearse(
    model: nn.Module, wanted: list[tuple[Dimension, int]], optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Try widths one after the other on the meta device.

    Raises:
        OptionError: the optimizer keeps state that no channels can be told in.
        GCPError: the model would not run any more.
    """
    names = {axis.tensor for dimension, _ in wanted for axis in dimension.graph.touching(dimension)}
    Moments(optimizer, {id(parameter): name for name, parameter in model.named_parameters() if name in names})
    twin = _without_values(model)
    graph = wanted[0][0].graph
    before = {dimension: dimension.width for dimension, _ in wanted}
    try:
        for dimension, width in wanted:
            edit(twin, dimension, torch.arange(width).where(torch.arange(width) < dimension.width, -1))
            try:
                trace(twin, graph.example)
            except GCPError as error:
                raise GCPError(
                    f"width {dimension.name!r} cannot go from {before[dimension]} to {width}: the model would not run "
                    f"any more ({error.__cause__ or error})"
                ) from error
    finally:
        for dimension, width in before.items():
            dimension.width = width


def _without_values(model: nn.Module) -> nn.Module:
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return deepcopy(model, memo)
