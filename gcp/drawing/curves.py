"""Curves of a run: loss and accuracy, or bits per dimension, and learning rate over its epochs, from `metrics.csv`."""

import csv
from pathlib import Path
from typing import Any

from gcp.drawing.picture import save

TRAIN, VALIDATION = "#4477aa", "#cc6677"  # apart also for colour-blind readers
PARTS = ("#222222", "#228833", "#aa3377", "#ccbb44")


QUANTITIES = (("loss", "cross-entropy"), ("accuracy", "accuracy, %"), ("bits", "bits per dimension"))


def draw_curves(metrics_csv: str | Path, png: str | Path) -> None:
    """Draw `metrics_csv` into a PNG of 1500 x 450 pixels; a table without rows draws nothing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with open(metrics_csv, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    figure = Figure(figsize=(15, 4.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)  # without pyplot there is no window system to find and no global state
    measured = [(name, label) for name, label in QUANTITIES if f"train_{name}" in rows[0]]
    *panels, rate = figure.subplots(1, len(measured) + 1)
    for axes, (quantity, label) in zip(panels, measured, strict=True):
        _pair(axes, rows, quantity, label)
        if quantity == "accuracy":
            _mark_best(axes, rows)
    _rates(rate, rows)
    figure.suptitle(Path(metrics_csv).resolve().parent.name, fontsize=11)
    save(figure, png)


def _series(rows: list[dict], column: str) -> tuple[list[int], list[float]]:
    """Epochs and values of the rows that have the column."""
    filled = [row for row in rows if row.get(column)]
    return [int(row["epoch"]) for row in filled], [float(row[column]) for row in filled]


def _plot(axes: Any, rows: list[dict], column: str, **style: Any) -> None:
    x, y = _series(rows, column)
    if x:
        axes.plot(x, y, linewidth=1.8, marker="o" if len(x) <= 30 else None, markersize=3.5, **style)


def _dress(axes: Any, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_lines():
        axes.legend(frameon=False)


def _pair(axes: Any, rows: list[dict], quantity: str, label: str) -> None:
    _plot(axes, rows, f"train_{quantity}", color=TRAIN, label="training")
    _plot(axes, rows, f"val_{quantity}", color=VALIDATION, label="validation")
    _dress(axes, label)


def _mark_best(axes: Any, rows: list[dict]) -> None:
    x, y = _series(rows, "val_accuracy")
    if y:
        best = max(range(len(y)), key=y.__getitem__)
        axes.axhline(y[best], color=VALIDATION, linewidth=0.8, linestyle=":")
        axes.set_title(f"highest validation accuracy {y[best]:.2f} % at epoch {x[best]}", fontsize=10)


def _rates(axes: Any, rows: list[dict]) -> None:
    columns = [column for column in rows[0] if column.startswith("lr_")]
    for place, column in enumerate(columns):
        # equal rates lie on each other: dashes of a different phase keep them all visible
        _plot(
            axes,
            rows,
            column,
            color=PARTS[place % 4],
            label=column[3:],
            linestyle=(3 * place, (6, 3 * place)),
        )
    values = [value for column in columns for value in _series(rows, column)[1]]
    if values and min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")
    _dress(axes, "learning rate after the epoch")
