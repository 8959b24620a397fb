"""Widths by name: what is asked for, tried before the model is touched, reported; a model resized to given widths."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import GCPError, OptionError
from gcp.evolve.calls import Images, at_rest, change
from gcp.evolve.channel_graph.dimension import Dimension
from gcp.evolve.channel_graph.tracer import is_triangle, trace
from gcp.evolve.edit import OptimizerState, edit, originals
from gcp.evolve.heads import keep_scores
from gcp.evolve.norms import keep_norms
from gcp.evolve.parametrized import plain_weights
from gcp.heads.base import Head
from gcp.kernels.triangle import pack

# change of the outputs, relative and in float64, by channels that nothing reads; what is more is no rounding
UNREAD = 1e-5


@dataclass(frozen=True)
class WidthReport:
    """One dimension before and after.

    Attributes:
        dimension: its name.
        before, after: channels.
        error: |change of the model's output| / |output| in evaluation mode, on images that fitted nothing; None
            without images.
        kept: the old channels that stay, in their order; empty where axes were rotated.
        parameters_before, parameters_after: of the model.
    """

    dimension: str
    before: int
    after: int
    error: float | None
    kept: tuple[int, ...]
    parameters_before: int
    parameters_after: int


def resolve(
    model: nn.Module,
    which: str | Dimension | Mapping[str, int],
    width: int | None,
    example: Tensor | None,
    images: Images | None = None,
) -> list[tuple[Dimension, int]]:
    """The dimensions that are meant, with the widths that they are to have, all of them possible.

    Where there is no example the images are one.

    Raises:
        UnknownNameError, OptionError: which is what `grow` says.
    """
    if isinstance(which, Mapping) and width is not None:
        raise OptionError("a width is given beside {name: width}; give images and other options by name: images=...")
    if isinstance(which, Dimension):
        if which.name not in which.graph.dimensions or not which.graph.fits(model):
            raise OptionError(f"width {which.name!r} was traced in another model, or before another edit: trace again")
        found = [(which, width)]
    else:
        if example is None and images is not None and len(images):
            example = images if isinstance(images, Tensor) else images[0]
        ties = trace(model, example)
        asked = dict(which) if isinstance(which, Mapping) else {which: width}
        if not ties or not asked:
            raise OptionError("no width is given" if not asked else "the model has no widths")
        graph = next(iter(ties.values())).graph
        found = [(graph.find(name), value) for name, value in asked.items()]
    checked = []
    for dimension, value in found:
        dimension.check(value)  # type: ignore[arg-type]
        checked.append((dimension, int(value)))  # type: ignore[arg-type]
    names = [dimension.name for dimension, _ in checked]
    if twice := [name for name in names if names.count(name) > 1]:
        raise OptionError(f"width {twice[0]!r} is given twice, under two of its names")
    return checked


def directed(dimension: Dimension, width: int, upwards: bool) -> None:
    """Raise OptionError where a width would change in the other direction."""
    if (width < dimension.width) if upwards else (width > dimension.width):
        this, other = ("grow", "shrink") if upwards else ("shrink", "grow")
        raise OptionError(f"width {dimension.name!r} is {dimension.width}: to {width} it does not {this}; use {other}")


def widths(model: nn.Module, example: Tensor | None = None) -> dict[str, int]:
    """All widths that can be edited by name: what has to be stored to build the model again.

    Raises as `trace` does.
    """
    return _editable(trace(model, example))


def _editable(ties: Mapping[str, Dimension]) -> dict[str, int]:
    return {name: dimension.width for name, dimension in ties.items() if dimension.editable}


def publish(models: Iterable[nn.Module | None], edited: list[tuple[Dimension, int]]) -> None:
    """Add the widths to the `arguments` by which a model can be built again, where it has them."""
    for model in models:
        arguments = getattr(model, "arguments", None)
        if isinstance(arguments, dict):
            arguments["widths"] = {**arguments.get("widths", {}), **_editable(edited[0][0].graph.dimensions)}


def try_widths(
    model: nn.Module, wanted: list[tuple[Dimension, int]], optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Try widths one after the other on the meta device, and whether channels that nobody reads change the outputs.

    Raises:
        OptionError: the optimizer keeps state whose channels are unknown.
        GCPError: the model would not run any more, or it computes with the width as a number, which tracing cannot see
            where a module holds it as an attribute.
    """
    names = {axis.tensor for dimension, _ in wanted for axis in dimension.graph.touching(dimension)}
    changing = {name: originals(p) for name, p in model.named_parameters() if name in names}
    OptimizerState(optimizer, {id(original): name for name, own in changing.items() for original in own})
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
    for dimension in before:
        _check_outputs(model, dimension, graph.example.shape)


def _check_outputs(model: nn.Module, dimension: Dimension, shape: torch.Size) -> None:
    """Compare the outputs of a copy before and after channels that nothing reads. Raises GCPError where they differ.

    The root of a matrix depends on all of its channels: in its place the copy has the matrix itself.
    """
    like = next(model.parameters())
    if like.device.type == "meta":
        return
    copy, width = deepcopy(model).double(), dimension.width
    for module in copy.modules():
        if isinstance(module, Head) and is_triangle(module):
            module.__dict__["pool"] = _second_moment
    with torch.random.fork_rng([]), at_rest(copy):  # only the CPU's state is forked: the copy is edited there
        copy = copy.cpu()
        images = torch.rand(1, *shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        try:
            old = copy(images)
            source = torch.cat([torch.arange(width), torch.full((dimension.step,), -1)])
            edit(copy, dimension, source)
            keep_scores(copy, dimension, source, width)
            keep_norms([copy], dimension, source, width)
            new = copy(images)
        except (RuntimeError, ValueError, GCPError):  # such images are not for this model; its own will show it
            return
        finally:
            dimension.width = width
    error = change(old, new) if isinstance(old, Tensor) and isinstance(new, Tensor) else 0.0
    if error is not None and error > UNREAD:
        raise GCPError(
            f"width {dimension.name!r} cannot be edited: one more group of channels that nothing reads changes the "
            f"outputs by {error:.1e}. Something in the model computes with the width as a number"
        )


def _second_moment(x: Tensor) -> Tensor:
    X = x.flatten(2)
    return pack(X @ X.mT / X.shape[2])


def _without_values(model: nn.Module) -> nn.Module:
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return deepcopy(model, memo)


def resize(model: nn.Module, widths: Mapping[str, int], example: Tensor | None = None) -> None:
    """Give the dimensions of `widths` these widths, in place; weights are to be loaded behind it.

    What is left of the weights are the first channels. New channels are written, and unlike those of `grow` read, with
    weights of the scale of the others: of a model that is not trained yet they begin as all do.

    Raises:
        UnknownNameError, OptionError: the model has no such dimensions or widths; nothing is changed.
    """
    if not widths:
        return
    with plain_weights(model):
        wanted = resolve(model, widths, None, example)
        for dimension, width in wanted:
            if width != dimension.width:
                places = torch.arange(width)
                source = torch.where(places < dimension.width, places, -1)
                readers = dimension.graph.readers(dimension)
                fresh = [(axis, axis.layout.index(dimension, source) < 0) for axis in readers]
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
