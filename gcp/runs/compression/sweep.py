"""One trained model at several sizes by several methods: what is left of its accuracy, and what it costs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import Tensor, nn

from gcp.compress import decompose
from gcp.compress.basis import METHODS
from gcp.errors import OptionError
from gcp.runs.compression.cost import costs


@dataclass(frozen=True)
class Point:
    """One compressed model. `method` is "dense" for the model itself; `error` is that of its output.

    `latency_ms` is of the round in which the dense model was timed first; those of other rounds are scaled by what the
    dense model took in them.
    """

    method: str
    value: float | None
    parameters: int
    latency_ms: float
    top1: float
    error: float | None


COLUMNS = [field.name for field in fields(Point)]


def sweep(
    model: nn.Module,
    target: str,
    values: Sequence[float],
    data: Iterable[Tensor],
    score: Callable[[nn.Module], float],
    images: Tensor,
    methods: Sequence[str] = METHODS,
    options: dict[str, Any] | None = None,
    say: Callable[[str], object] = print,
) -> list[Point]:
    """Every value of a target by every method, and the dense model first.

    Args:
        model: trained.
        target: rank, ratio, energy, params or error of `decompose`.
        values: of it.
        data: for `decompose`.
        score: (model) -> top-1 accuracy in percent.
        images: a batch for the latency; all models of one value take turns with the dense one.
        methods: of `decompose`.
        options: further arguments of `decompose`.
        say: takes a line on values that cannot be met.
    """
    points: list[Point] = []
    accuracy, reference = score(model), 0.0
    for value in values:
        made: dict[str, nn.Module] = {"dense": model}
        errors: dict[str, float | None] = {"dense": None}
        for method in methods:
            try:
                arguments = {**(options or {}), target: value}
                made[method], report = decompose(model, method=method, data=data, **arguments)
                errors[method] = report.error
            except OptionError as error:
                say(f"{method} at {target} {value:g}: {error}")
        found = costs(made, images, memory=False)
        reference = reference or found["dense"].latency_ms
        for method, cost in found.items():
            if method == "dense" and points:
                continue
            top1 = accuracy if method == "dense" else score(made[method])
            at = None if method == "dense" else value
            latency = cost.latency_ms * reference / found["dense"].latency_ms
            points.append(Point(method, at, cost.parameters, latency, top1, errors[method]))
    return points


def plain(points: Iterable[Point]) -> list[dict[str, Any]]:
    """Plain values, for files."""
    return [asdict(point) for point in points]
