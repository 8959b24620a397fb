"""One trained model at several sizes by several methods: what is left of its accuracy, what it costs, pictures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gcp.compress import CompressionReport, LayerReport, decompose
from gcp.compress.basis import METHODS
from gcp.errors import OptionError
from gcp.measure import peak_bytes, spread, take_turns, timed

MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """Of one model.

    Attributes:
        parameters: their number.
        weights_mib: memory of parameters and buffers.
        peak_mib: the most that a forward allocates beside them, None where it is not measured.
        latency_ms, fastest_ms: median and least time of a forward of the batch.
    """

    parameters: int
    weights_mib: float
    peak_mib: float | None
    latency_ms: float
    fastest_ms: float


def costs(
    models: Mapping[str, nn.Module], images: Tensor, repeats: int = 7, warmup: int = 2, memory: bool = True
) -> dict[str, Cost]:
    """Costs of models on one batch (B, C, H, W) where they are; their forwards take turns. Evaluation mode.

    Without `memory` the peak, which needs a forward under a profiler, is left out.
    """
    device = images.device

    def lap(model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {"forward": timed(lambda: model(images), device)[1]}

    def peak(model: nn.Module) -> float:
        with torch.no_grad():
            return peak_bytes(lambda: model(images), device) / MIB

    modes = {name: model.training for name, model in models.items()}
    for model in models.values():
        model.eval()
    times = take_turns({name: partial(lap, model) for name, model in models.items()}, warmup, repeats)
    found = {}
    for name, model in models.items():
        held = [*model.parameters(), *model.buffers()]
        took = spread(times[name]["forward"])
        found[name] = Cost(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            weights_mib=sum(tensor.numel() * tensor.element_size() for tensor in held) / MIB,
            peak_mib=peak(model) if memory else None,
            latency_ms=took["median"],
            fastest_ms=took["min"],
        )
        model.train(modes[name])
    return found


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


COLOURS = {"output_pca": "#4477aa", "asvd": "#cc6677", "svd": "#228833"}
SHOWN = 60  # layers in the picture; all are in the table


def draw_sweep(points: Sequence[Point], png: str | Path) -> None:
    """Top-1 accuracy over parameters and over the latency of one batch, a line for each method, into a PNG."""
    figure = _figure(11, 4.4)
    panels = figure.subplots(1, 2)
    columns = (("parameters", "parameters", "log"), ("latency_ms", "latency of a batch, ms", "linear"))
    for axes, (key, label, scale) in zip(panels, columns, strict=True):
        for method in dict.fromkeys(point.method for point in points if point.method != "dense"):
            pairs = [(getattr(point, key), point.top1) for point in points if point.method == method]
            axes.plot(*zip(*pairs, strict=True), marker="o", color=COLOURS.get(method), label=method)
        for point in points:
            if point.method == "dense":
                axes.plot(
                    getattr(point, key), point.top1, marker="*", markersize=13, color="black", ls="", label="dense"
                )
        axes.set_xscale(scale)
        axes.set_xlabel(label)
        axes.set_ylabel("top-1 accuracy, %")
        _tidy(axes)
    panels[0].legend(frameon=False)
    figure.savefig(png, format="png")


def draw_layers(report: CompressionReport, png: str | Path) -> None:
    """Parameters of the layers before and after, and their errors, into a PNG; the largest layers only."""
    largest = sorted(report.rows, key=lambda row: -row.parameters)[:SHOWN]
    rows = [row for row in report.rows if row in largest][::-1]
    figure = _figure(11, 1.4 + 0.21 * max(4, len(rows)))
    sizes, errors = figure.subplots(1, 2, sharey=True)
    places = range(len(rows))
    sizes.barh(places, [row.parameters for row in rows], color="#dddddd", label="before")
    sizes.barh(places, [row.parameters_after for row in rows], color="#4477aa", height=0.5, label="after")
    sizes.set_yticks(places, [_name(row) for row in rows], fontsize=7)
    sizes.set_ylim(-0.7, len(rows) - 0.3)
    sizes.set_xlabel("parameters")
    sizes.set_xscale("log")
    for key, marker, colour in (("estimated", "|", "#cc6677"), ("measured", "o", "#4477aa")):
        known = [(getattr(row, key), place) for place, row in enumerate(rows) if getattr(row, key) is not None]
        if known:
            errors.plot(*zip(*known, strict=True), ls="", marker=marker, markersize=5, color=colour, label=key)
    errors.set_xlabel("relative error of the layer")
    for axes in (sizes, errors):
        _tidy(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, loc="best")
    figure.savefig(png, format="png")


def _name(row: LayerReport) -> str:
    return f"{row.name or '(the model)'}  {row.rank}".rstrip()


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tidy(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
