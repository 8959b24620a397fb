"""Curves of a run: loss and accuracy, or bits per dimension, and learning rate over its epochs, from `metrics.csv`."""

import csv
from pathlib import Path
from typing import Any

from gcp.drawing.figure import save

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
    *panels, rate = figure.subplots(1, len(measured) + 1, width_ratios=[*[3] * len(measured), 2])
    chosen = best_row(rows)
    for axes, (quantity, label) in zip(panels, measured, strict=True):
        _pair(axes, rows, quantity, label)
        _mark(axes, chosen, quantity)
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


def best_row(rows: list[dict]) -> dict | None:
    """The row whose validation is best, by the rule that chooses `best.pt`: the highest accuracy (where there is one),
    of equal ones the lowest loss or bits, of equal ones the first. None where nothing was held out.
    """

    def rank(row: dict) -> tuple[float, float]:
        return float(row.get("val_accuracy") or 0), -float(row.get("val_loss") or row["val_bits"])

    return max((row for row in rows if row.get("val_loss") or row.get("val_bits")), key=rank, default=None)


def _mark(axes: Any, chosen: dict | None, quantity: str) -> None:
    """A ring around the validation of the chosen epoch, with its value above."""
    if chosen is None or not chosen.get(f"val_{quantity}"):
        return
    epoch, value = int(chosen["epoch"]), float(chosen[f"val_{quantity}"])
    axes.plot([epoch], [value], "o", markersize=10, fillstyle="none", color=VALIDATION, markeredgewidth=1.6)
    unit = " %" if quantity == "accuracy" else ""
    axes.set_title(f"best on validation: epoch {epoch}, {value:.4g}{unit}", fontsize=10)


def _rates(axes: Any, rows: list[dict]) -> None:
    """The learning rate of every part; parts with the same one share a curve."""
    parts: dict[tuple, list[str]] = {}
    for column in (column for column in rows[0] if column.startswith("lr_")):
        parts.setdefault(tuple(row[column] for row in rows), []).append(column)
    for place, columns in enumerate(parts.values()):
        label = ", ".join(column[3:] for column in columns)
        _plot(axes, rows, columns[0], color=PARTS[place % 4], label=label)
    values = [value for columns in parts.values() for value in _series(rows, columns[0])[1]]
    if values and min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")
    _dress(axes, "learning rate after the epoch")
