"""Accuracy over parameters of widths that stay, that evolve, and that are trained from scratch."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from gcp.drawing.figure import save
from gcp.drawing.labels import whole_counts

COLOURS = {"fixed": "#888888", "evolved": "#ee6677", "scratch": "#4477aa"}
MARKERS = "osD^v"


def draw_evolution_study(rows: Sequence[dict[str, Any]], png: str | Path) -> None:
    """Draw the rows of a study's `cells.csv` into a PNG: a panel for each start, a marker for each optimizer and head.

    Small: the runs; large: the mean over seeds, at the median of the parameters; a line leads from the start to the
    widths that came out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    starts = list(dict.fromkeys(row["start"] for row in rows))
    kinds = list(dict.fromkeys((row["optimizer"], row["head"]) for row in rows))
    figure = Figure(figsize=(5 * len(starts), 4.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, start in zip(figure.subplots(1, len(starts), sharey=True, squeeze=False)[0], starts, strict=True):
        for marker, kind in zip(MARKERS, kinds, strict=False):
            own = [row for row in rows if row["start"] == start and (row["optimizer"], row["head"]) == kind]
            _kind(axes, own, marker)
        axes.set(xlabel="parameters", title=start)
        whole_counts(axes, "x", log=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("test accuracy, %")
    signs = [Line2D([], [], linestyle="", marker="o", color=colour, label=arm) for arm, colour in COLOURS.items()]
    signs += [
        Line2D([], [], linestyle="", marker=marker, color="black", fillstyle="none", label=", ".join(kind))
        for marker, kind in zip(MARKERS, kinds, strict=False)
    ]
    figure.legend(handles=signs, loc="outside lower center", ncols=len(signs), frameon=False)
    save(figure, png)


def _kind(axes: Any, rows: Sequence[dict[str, Any]], marker: str) -> None:
    """The runs of one start, optimizer and head."""
    ends = {}
    for arm, colour in COLOURS.items():
        runs = [(int(row["parameters"]), float(row["test_top1"])) for row in rows if row["widths"] == arm]
        if not runs:
            continue
        axes.scatter(*zip(*runs, strict=True), marker=marker, s=12, color=colour, alpha=0.4, linewidths=0)
        ends[arm] = median(count for count, _ in runs), mean(top1 for _, top1 in runs)
        axes.scatter(*ends[arm], marker=marker, s=70, color=colour, edgecolors="white", zorder=3)
    if {"fixed", "evolved"} <= ends.keys():
        axes.plot(*zip(ends["fixed"], ends["evolved"], strict=True), color=COLOURS["evolved"], alpha=0.5, linewidth=1)
