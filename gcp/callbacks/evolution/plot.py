"""Widths, parameters and validation accuracy over a run, from `evolution.csv` and `metrics.csv`."""

import csv
from pathlib import Path
from typing import Any

from gcp.drawing.curves import VALIDATION
from gcp.drawing.figure import save
from gcp.drawing.labels import whole_counts

MOST = 12  # curves in one picture: of more widths those that have changed most
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")  # apart also for colour-blind readers
STYLES = ("-", "--")


def draw(evolution_csv: str | Path, metrics_csv: str | Path, png: str | Path) -> None:
    """Draw both tables into a PNG of 1500 x 500 pixels; without an edit nothing is drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    edits, epochs = _rows(evolution_csv), _rows(metrics_csv)
    if not edits:
        return
    figure = Figure(figsize=(15, 5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)  # without pyplot there is no window system to find and no global state
    widths, parameters, accuracy = figure.subplots(1, 3, sharex=True)
    end = max(int(row["step"]) for row in [*edits, *epochs])
    _widths(widths, edits, end)
    steps, counts = course(edits, "parameters_before", "parameters", end)
    parameters.plot(steps, counts, drawstyle="steps-post", color="#222222", linewidth=1.8)
    parameters.set_title(f"{counts[0]:,} to {counts[-1]:,}", fontsize=10)
    scored = [row for row in epochs if row.get("val_accuracy")]
    x, y = [int(row["step"]) for row in scored], [float(row["val_accuracy"]) for row in scored]
    accuracy.plot(x, y, color=VALIDATION, linewidth=1.8, marker="o" if len(x) <= 30 else None, markersize=3.5)
    for axes, label in (
        (widths, "width, channels"),
        (parameters, "parameters of the model"),
        (accuracy, "validation accuracy, %"),
    ):
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    whole_counts(widths, "y", log=True)
    whole_counts(parameters, "y", log=max(counts) > 20 * min(counts))
    figure.legend(loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    figure.suptitle(Path(evolution_csv).resolve().parent.name, fontsize=11)
    save(figure, png)


def course(edits: list[dict], before: str, after: str, end: int) -> tuple[list[int], list[int]]:
    """Steps and values of a quantity that edits change, from step 0 to `end`."""
    last = {int(row["step"]): int(row[after]) for row in edits}  # of several edits in one step
    steps, values = [0, *last, end], [int(edits[0][before]), *last.values()]
    return steps, [*values, values[-1]]


def _rows(path: str | Path) -> list[dict]:
    if not Path(path).is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _widths(axes: Any, edits: list[dict], end: int) -> None:
    names = sorted({row["dimension"] for row in edits})
    own = {name: [row for row in edits if row["dimension"] == name] for name in names}
    ratio = {name: int(rows[-1]["after"]) / int(rows[0]["before"]) for name, rows in own.items()}
    shown = sorted(names, key=lambda name: -abs(ratio[name] - 1))[:MOST]
    for place, name in enumerate(name for name in names if name in shown):
        colour, style = COLOURS[place % len(COLOURS)], STYLES[place // len(COLOURS)]
        steps, values = course(own[name], "before", "after", end)
        axes.plot(steps, values, drawstyle="steps-post", color=colour, linestyle=style, linewidth=1.6, label=name)
    if len(names) > MOST:
        axes.set_title(f"the {MOST} of {len(names)} widths that changed most", fontsize=10)
