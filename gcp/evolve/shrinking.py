"""Fewer channels: those are dropped that the others explain best, and what read them is fitted anew."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from gcp.errors import OptionError
from gcp.evolve.axes import principal_axes, rotatable, rotate_axes
from gcp.evolve.calls import Images, change, outputs, parts
from gcp.evolve.channel_graph.dimension import Channels, Dimension
from gcp.evolve.channel_graph.graph import ROWS
from gcp.evolve.choose import check_method, choose
from gcp.evolve.edit import LinkedState, edit, linked_state
from gcp.evolve.heads import keep_scores, measure, rotate_heads
from gcp.evolve.norms import keep_norms
from gcp.evolve.parametrized import count_parameters, keep_spectral_norms, plain_weights
from gcp.evolve.refit import refit, targets
from gcp.evolve.widths import WidthReport, directed, publish, resolve, try_widths

Turn = Callable[[nn.Module, torch.optim.Optimizer | None], None]


@overload
def shrink(
    model: nn.Module,
    which: str | Dimension,
    width: int | None = None,
    images: Images | None = None,
    *,
    keep: Sequence[int] | None = None,
    method: str = "pivot",
    fit: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    ema: Any = None,
    example: Tensor | None = None,
) -> WidthReport: ...
@overload
def shrink(
    model: nn.Module,
    which: Mapping[str, int],
    width: None = None,
    images: Images | None = None,
    *,
    keep: Sequence[int] | None = None,
    method: str = "pivot",
    fit: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    ema: Any = None,
    example: Tensor | None = None,
) -> dict[str, WidthReport]: ...


def shrink(
    model: nn.Module,
    which: str | Dimension | Mapping[str, int],
    width: int | None = None,
    images: Images | None = None,
    *,
    keep: Sequence[int] | None = None,
    method: str = "pivot",
    fit: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    ema: Any = None,
    example: Tensor | None = None,
) -> WidthReport | dict[str, WidthReport]:
    """Narrow one dimension, or several one after the other, in place.

    With images, the layers that read the dimension are fitted to what they gave before (`gcp.evolve.refit`). Where a
    covariance head pools what is affine in its reduction, `pivot` turns it to principal axes first and drops directions
    (`gcp.evolve.axes`), and so it does with the channels of each head of an attention (`gcp.evolve.heads`).

    Args:
        model: any module.
        which: a dimension of `trace(model)` or its name; or {name: width}.
        width: channels that are to stay.
        images: (B, C, H, W), or batches of them, by which channels are chosen and readers fitted; every fourth is held
            out to measure the error (of fewer than four none). They are called together, three passes without
            gradients.
        keep: the channels that stay, instead of `width` and `method`.
        method: "pivot" (needs images), "magnitude" or "last", see `gcp.evolve.choose`.
        fit: whether readers are fitted where there are images.
        optimizer: as in `grow`.
        ema: as in `grow`; it loses the same channels, and its readers are fitted to its own outputs.
        example: as in `grow`.

    Raises:
        UnknownNameError, OptionError, GCPError: as `grow`; nothing is changed then.
    """
    if keep is not None:
        if isinstance(which, Mapping) or width is not None:
            raise OptionError("keep says which channels of one dimension stay: give neither several nor a width")
        width = len(keep)
    pair, linked = parts(images, model), linked_state(optimizer, ema)
    with plain_weights(linked.models(model), optimizer):
        wanted = resolve(model, which, width, example, images)
        for dimension, new in wanted:
            directed(dimension, new, upwards=False)
        if keep is None:
            check_method(method, pair[0] if pair else None)
        kept = None if keep is None else _checked(wanted[0][0], keep)
        try_widths(model, wanted, optimizer)
        reports = {
            dimension.name: _shrink(model, dimension, new, pair, kept, method, fit, linked) for dimension, new in wanted
        }
        publish((model, linked.average), wanted)
    return reports if isinstance(which, Mapping) else next(iter(reports.values()))


def _checked(dimension: Dimension, keep: Sequence[int]) -> Tensor:
    kept = sorted({int(channel) for channel in keep})
    if len(kept) != len(keep) or not 0 <= kept[0] <= kept[-1] < dimension.width:
        raise OptionError(f"keep has to name channels of {dimension.name!r}, 0 to {dimension.width - 1}, each once")
    blocks = torch.tensor(kept).view(-1, dimension.step)
    whole = blocks[:, :1] // dimension.step * dimension.step + torch.arange(dimension.step)
    if not torch.equal(blocks, whole):
        raise OptionError(f"keep has to name whole groups of {dimension.name!r}, {dimension.step} channels each")
    return torch.tensor(kept)


def _shrink(
    model: nn.Module,
    dimension: Dimension,
    width: int,
    pair: tuple[Tensor, Tensor] | None,
    kept: Tensor | None,
    method: str,
    fit: bool,
    linked: LinkedState,
) -> WidthReport:
    before, parameters = dimension.width, count_parameters(model)
    error: float | None = 0.0 if pair else None
    turn: Turn | None = None
    source = torch.arange(width)
    if width < before:
        models = linked.models(model)
        fitted = fit and pair is not None
        wanted = [_targets(module, dimension, pair[0]) for module in models] if fitted and pair else []
        old = outputs(model, pair[1]) if pair else None
        turn = _turn(model, dimension, pair[0]) if kept is None and method == "pivot" and pair else None
        if turn is not None:
            for module in models:
                turn(module, linked.optimizer if module is model else None)
        else:
            source = kept if kept is not None else choose(model, dimension, width, method, pair[0] if pair else None)
        edit(model, dimension, source, linked)
        for module in models:
            keep_scores(module, dimension, source, before)
            keep_spectral_norms(module, dimension, source, before)
        keep_norms(models, dimension, source, before)
        for module, targeted in zip(models, wanted, strict=False):
            assert pair is not None
            refit(module, pair[0], dimension, _rest(dimension, targeted, source))
        error = change(old, outputs(model, pair[1])) if pair else None
    after = count_parameters(model)
    stay = () if turn is not None else tuple(source.tolist())
    return WidthReport(dimension.name, before, width, error, stay, parameters, after)


def _turn(model: nn.Module, dimension: Dimension, images: Tensor) -> Turn | None:
    """How to give a model, and its optimizer's state, another basis of a dimension, the strongest channel first; None
    where its channels cannot be mixed.
    """
    if (rotation := rotatable(model, dimension)) is not None:
        U = principal_axes(model, rotation, images)
        return lambda module, optimizer: rotate_axes(module, rotation, U, images, optimizer)
    graph = dimension.graph
    attention = graph.attention_of(dimension)
    if attention is None or dimension is attention.query.layout.number.dimension:
        return None
    moments = measure(model, graph, [attention], [images])[0]
    if moments is None:
        return None
    return lambda module, optimizer: rotate_heads(module, dimension, attention, moments, optimizer)


def _targets(model: nn.Module, dimension: Dimension, images: Tensor) -> dict[str, Tensor]:
    return targets(model, images, [axis.tensor for axis in dimension.graph.readers(dimension)])


def _rest(dimension: Dimension, wanted: dict[str, Tensor], source: Tensor) -> dict[str, Tensor]:
    """A layer that reads and writes the same dimension has fewer outputs now."""
    axes = dimension.graph.axes
    rest = {}
    for name, rows in wanted.items():
        rows_of = axes.get((name, 0))
        mine = rows_of is not None and rows_of.role == ROWS and dimension in rows_of.layout.dimensions
        rest[name] = rows[:, source.to(rows.device)] if mine and isinstance(rows_of.layout, Channels) else rows  # type: ignore[union-attr]
    return rest
