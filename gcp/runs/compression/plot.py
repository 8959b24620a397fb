"""Pictures of a compression: accuracy against size and latency, and what became of every layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gcp.compress import Report, Row
from gcp.runs.compression.sweep import Point

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


def draw_layers(report: Report, png: str | Path) -> None:
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


def _name(row: Row) -> str:
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
