"""From what was asked for to dimensions and widths, and from an edited model to what it says of itself."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from gcp.errors import OptionError
from gcp.evolve.calls import Images
from gcp.evolve.ties.dimension import Dimension
from gcp.evolve.ties.tracer import trace


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
    """Where a model tells by `arguments` how to build it, have it tell its widths."""
    for model in models:
        arguments = getattr(model, "arguments", None)
        if isinstance(arguments, dict):
            arguments["widths"] = {**arguments.get("widths", {}), **_editable(edited[0][0].graph.dimensions)}
