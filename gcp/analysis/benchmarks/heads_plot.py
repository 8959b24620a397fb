"""The benchmark of the heads as bars: forward + backward of each head at each shape, beside one eigendecomposition."""

from pathlib import Path
from typing import Any


def plot(points: list[dict[str, Any]], machine: str, path: Path | str) -> None:
    """Draw `points` of `gcp.analysis.benchmarks.heads.compare` into an image file; its ending is the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1 + 2.2 * len(points)), layout="constrained")
    FigureCanvasAgg(figure)
    for place, point in enumerate(points, 1):
        axes = figure.add_subplot(len(points), 1, place)
        names, times = [row["head"] for row in point["rows"]], [row["time_ms"]["both"] for row in point["rows"]]
        medians = [time["median"] for time in times]
        below = [time["median"] - time["min"] for time in times]
        above = [time["max"] - time["median"] for time in times]
        axes.barh(names, medians, xerr=[below, above], color="tab:blue", error_kw={"elinewidth": 1})
        axes.axvline(
            point["unit_ms"]["median"], color="tab:red", linewidth=1, label="one eigh of the covariances, float64"
        )
        axes.invert_yaxis()
        axes.set_title(f"batch {point['batch']}, d {point['dim']}, map {point['map']}x{point['map']}", fontsize=9)
        axes.tick_params(labelsize=8)
        if place == len(points):
            axes.set_xlabel(f"forward + backward, ms (median, least, greatest) on {machine}", fontsize=8)
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
