"""Times of the methods over d, one panel for each task."""

from pathlib import Path
from typing import Any

from gcp.analysis.benchmarks.layer_methods import OURS

COLOURS = ("#4477aa", "#cc6677", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#999933", "#882255", "#bbbbbb")


def draw_times(points: list[dict[str, Any]], png: str | Path) -> None:
    """Draw forward + backward medians of `compare` into a PNG, both axes logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(point["task"] for point in points))
    figure = Figure(figsize=(6.5 * len(tasks), 4.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        _panel(axes, [point for point in points if point["task"] == task])
        axes.set_title(task)
    figure.savefig(png, format="png")


def _panel(axes: Any, points: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(row["method"] for point in points for row in point["rows"]))
    for place, name in enumerate(names):
        pairs = sorted(
            (point["d"], row["time_ms"]["both"]["median"])
            for point in points
            for row in point["rows"]
            if row["method"] == name
        )
        style = {"linewidth": 2.4 if name == OURS else 1.3, "linestyle": "--" if name == "dense" else "-"}
        axes.plot(*zip(*pairs, strict=True), marker="o", color=COLOURS[place % 9], label=name, **style)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("d")
    axes.set_ylabel("forward + backward, ms")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
