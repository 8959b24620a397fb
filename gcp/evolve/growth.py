"""More channels, and the same outputs.

New channels are written with weights of the scale of those that are there, so that a gradient reaches whatever reads
them, and are read with zeros: nothing changes. A covariance head reads them before any weight does: the root of the
covariance mixes its channels, and at an eigenvalue of zero it has a kink. Its new channels are therefore small, not
zero: `SMALL` of the mean standard deviation of the others. The root of the others changes by the square of that:
relatively by 8e-7, and by 9e-6 at 1e-2 (svd_pade, 32 channels and one more, ResNet-8 on noise of 32 x 32). The scores
of an attention read them before any weight does, too: there the new keys are zero (`gcp.evolve.heads`). Under a layer
norm new channels are the mean of the others (`gcp.evolve.norms`).
"""

from collections.abc import Mapping
from typing import Any, overload

import torch
from torch import Tensor, nn

from gcp.evolve.calls import Images, change, outputs, parts
from gcp.evolve.channel_graph.dimension import Channels, Dimension, Triangle
from gcp.evolve.channel_graph.graph import ROWS
from gcp.evolve.choose import pooled_maps
from gcp.evolve.edit import LinkedState, edit, linked_state
from gcp.evolve.heads import keep_scores
from gcp.evolve.norms import keep_norms
from gcp.evolve.parametrized import count_parameters, keep_spectral_norms, plain_weights
from gcp.evolve.widths import WidthReport, directed, publish, resolve, try_widths

SMALL = 3e-3  # of a new channel of a covariance head
GUESSED = 1e-3  # the same without images, when the scale of what is written is known to a factor of 3 at best


@overload
def grow(
    model: nn.Module,
    which: str | Dimension,
    width: int,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    ema: Any = None,
    images: Images | None = None,
    example: Tensor | None = None,
) -> WidthReport: ...
@overload
def grow(
    model: nn.Module,
    which: Mapping[str, int],
    width: None = None,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    ema: Any = None,
    images: Images | None = None,
    example: Tensor | None = None,
) -> dict[str, WidthReport]: ...


def grow(
    model: nn.Module,
    which: str | Dimension | Mapping[str, int],
    width: int | None = None,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    ema: Any = None,
    images: Images | None = None,
    example: Tensor | None = None,
) -> WidthReport | dict[str, WidthReport]:
    """Widen one dimension, or several, in place, so that the outputs stay what they are.

    In evaluation mode outputs change by rounding; through a covariance head a new channel changes them by about 1e-6 of
    their size (more where maps have hardly more positions than channels, and where it keeps a share of its directions,
    `svd_topn`: of more directions it keeps more). New weights are drawn from torch's global generator.

    Args:
        model: any module.
        which: a dimension of `trace(model)` or its name; or {name: width}.
        width: channels that it is to have.
        optimizer: of the model; new entries of its state are zero, the others stay bit-identical.
        ema: an average of the weights that is edited alike: a module, or an object with one as `.module`.
        images: (B, C, H, W), or batches of them: on these the change is measured, and the scale of new channels of a
            covariance head set.
        example: of the images that the model takes, where none are given and the model does not state their size (see
            `trace`).

    Raises:
        UnknownNameError: no such dimension.
        OptionError: it cannot be edited, the width is none that it can have, or the optimizer cannot follow.
        GCPError: the model would not run with this width. Nothing is changed then.
    """
    linked, pair = linked_state(optimizer, ema), parts(images, model)
    with plain_weights(linked.models(model), optimizer):
        wanted = resolve(model, which, width, example, images)
        reports = _grow(model, wanted, pair, linked)
        publish((model, linked.average), wanted)
    return reports if isinstance(which, Mapping) else next(iter(reports.values()))


def _grow(
    model: nn.Module, wanted: list[tuple[Dimension, int]], pair: tuple[Tensor, Tensor] | None, linked: LinkedState
) -> dict[str, WidthReport]:
    for dimension, new in wanted:
        directed(dimension, new, upwards=True)
    try_widths(model, wanted, linked.optimizer)
    reports = {}
    for dimension, new in wanted:
        before, parameters = dimension.width, count_parameters(model)
        old = outputs(model, pair[1]) if pair else None
        if new > before:
            source = torch.cat([torch.arange(before), torch.full((new - before,), -1)])
            edit(model, dimension, source, linked)
            models = linked.models(model)
            for module in models:
                keep_scores(module, dimension, source, before)
                keep_spectral_norms(module, dimension, source, before)
            keep_norms(models, dimension, source, before)
            if dimension.pooled:
                _shrink_scale(model, dimension, source < 0, pair[0] if pair else None, linked.average)
        error = change(old, outputs(model, pair[1])) if pair else None
        after = count_parameters(model)
        reports[dimension.name] = WidthReport(
            dimension.name, before, new, error, tuple(range(before)), parameters, after
        )
    return reports


@torch.no_grad()
def _shrink_scale(
    model: nn.Module, dimension: Dimension, fresh: Tensor, images: Tensor | None, average: nn.Module | None
) -> None:
    """Give the new channels of a pooled dimension `SMALL` of the scale of the others."""
    graph = dimension.graph
    axes, small = graph.scales(dimension), GUESSED if images is None else SMALL
    tensors = [(axis, model.get_parameter(axis.tensor)) for axis in axes]
    if axes[0].role != ROWS:
        for _, scale in tensors:
            scale[fresh] = small * scale[~fresh].abs().mean()
    else:
        for axis, weight in tensors:
            weight[_entries(axis.layout, dimension, fresh)] *= small
    if images is not None:
        factor = _measured(model, dimension, fresh, images)
        for axis, tensor in tensors:
            places = axis.layout.places(dimension)[fresh]
            tensor[places] *= factor.to(tensor).view(-1, *(1,) * tensor.ndim)
    if average is not None:
        for axis, tensor in tensors:
            entries = _entries(axis.layout, dimension, fresh)
            average.get_parameter(axis.tensor)[entries] = tensor[entries].to(average.get_parameter(axis.tensor))


def _entries(layout: Any, dimension: Dimension, channels: Tensor) -> Tensor:
    return layout.places(dimension)[channels].flatten()


def _measured(model: nn.Module, dimension: Dimension, fresh: Tensor, images: Tensor) -> Tensor:
    """(new channels,) what to multiply each one by; 1 where it is silent on these images."""
    layouts = [axis.layout for axis in dimension.graph.readers(dimension) if isinstance(axis.layout, Triangle)]
    maps = pooled_maps(model, images, [layout.head for layout in layouts])
    layout = layouts[0]
    spread = maps[layout.head].var(2, unbiased=False).mean(0).sqrt().cpu()
    places: Tensor = Channels.places(layout.channels, dimension)
    others = torch.ones(len(spread), dtype=torch.bool)
    others[places[fresh].flatten()] = False
    mine = spread[places[fresh]].mean(1)
    factor = SMALL * spread[others].mean() / mine
    return torch.where(torch.isfinite(factor) & (mine > 0), factor, 1.0)
