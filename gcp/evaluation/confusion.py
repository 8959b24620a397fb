"""Which classes are taken for which: the confusion matrix, its picture, and the pairs that are confused most.

The scores of each class, as rows of a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gcp.drawing.figure import save

NUMBERED = 25  # classes up to which every cell has its count written into it
NAMED = 200  # classes up to which every row has its name; beyond, every so many have their number
LETTERS = 28  # of a name
DPI = 100
LEAST_INCHES = 4.5  # of the side of the matrix
GAMMA = 0.35  # a confusion of 1 in 100 is as dark as a fifth of the scale


@dataclass(frozen=True)
class Pair:
    """Class `true` taken for `predicted` in `count` of its images, the part `share` of them."""

    true: int
    predicted: int
    count: int
    share: float


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Images of class i predicted as class j at [i, j], (classes, classes) int64."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def most_confused(matrix: np.ndarray, most: int) -> list[Pair]:
    """The ordered pairs with most wrong images, then with the greater share of the true class; at most `most`."""
    seen = matrix.sum(1)
    wrong = matrix - np.diag(np.diag(matrix))
    places = zip(*wrong.nonzero(), strict=True)
    pairs = [Pair(int(i), int(j), int(wrong[i, j]), float(wrong[i, j] / seen[i])) for i, j in places]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share, pair.true, pair.predicted))[:most]


def draw_confusion(matrix: np.ndarray, names: Sequence[str], path: str | Path) -> None:
    """Write the matrix as a PNG: rows are true classes, the colour is the share of the row.

    Every cell is a whole number of pixels, three of them at 1000 classes. The scale of colours is stretched at its
    lower end, where the confusions are.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    count = len(names)
    cell = _cell(count)
    side = max(cell * count, LEAST_INCHES * DPI) / DPI
    margin = _margin(names)
    figure = Figure(figsize=(side + margin + 1.2, side + margin + 0.6), dpi=DPI)
    FigureCanvasAgg(figure)
    width, height = figure.get_size_inches()
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(GAMMA, 0, 1), interpolation="nearest", aspect="equal")
    bar = figure.add_axes(((margin + side + 0.2) / width, margin / height, 0.18 / width, side / height))
    figure.colorbar(image, cax=bar, label="share of the true class")
    _label(axes, names, cell)
    if count <= NAMED:
        _border(axes, count)
    if count <= NUMBERED:
        _write_counts(axes, matrix, shares)
    right = int(np.trace(matrix))
    axes.set_title(f"{right} of {int(matrix.sum())} right", fontsize=10 if count <= NUMBERED else 16)
    save(figure, path)


def _cell(count: int) -> int:
    """Pixels of a cell: room for a number, for a line of text, or for the eye."""
    if count <= NUMBERED:
        return 36
    return 12 if count <= NAMED else 3


def _margin(names: Sequence[str]) -> float:
    """Inches that the names take beside the matrix."""
    if len(names) > NAMED:
        return 1.0
    return 0.7 + 0.008 * _font(len(names)) * min(LETTERS, max(map(len, names)))


def _font(count: int) -> int:
    """Points of a name."""
    return 9 if count <= NUMBERED else 7


def _label(axes: Any, names: Sequence[str], cell: int) -> None:
    count = len(names)
    axes.set_xlabel("predicted", fontsize=10 if count <= NUMBERED else 16)
    axes.set_ylabel("true", fontsize=10 if count <= NUMBERED else 16)
    if count > NAMED:
        step = 100 if count > 500 else 50
        axes.set_xticks(range(0, count, step))
        axes.set_yticks(range(0, count, step))
        axes.tick_params(labelsize=14)
        return
    short = [name if len(name) <= LETTERS else name[: LETTERS - 1] + "…" for name in names]
    size = _font(count)
    axes.set_xticks(range(count), short, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(count), short, fontsize=size, parse_math=False)


def _border(axes: Any, count: int) -> None:
    """Lines between the cells, thin ones where a cell is a line of text high."""
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#cccccc", linewidth=0.8 if count <= NUMBERED else 0.3)
    axes.tick_params(which="minor", length=0)


def _write_counts(axes: Any, matrix: np.ndarray, shares: np.ndarray) -> None:
    for i, j in zip(*matrix.nonzero(), strict=True):
        colour = "white" if shares[i, j] > 0.25 else "black"
        axes.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=8, color=colour)


def class_rows(matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, object]]:
    """One row for each class of a confusion matrix; shares in percent, None where nothing defines them.

    `accuracy` is the share of the class's images that are right (its recall), `precision` the share of the images
    predicted as the class that are of it; `most_taken_for` is the wrong class it was predicted as most often.
    """
    seen, predicted, right = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    wrong = matrix - np.diag(right)
    rows: list[dict[str, object]] = []
    for index, name in enumerate(names):
        other = int(wrong[index].argmax())
        taken = int(wrong[index, other])
        rows.append(
            {
                "class": index,
                "name": name,
                "images": int(seen[index]),
                "right": int(right[index]),
                "accuracy": _percent(right[index], seen[index]),
                "predicted": int(predicted[index]),
                "precision": _percent(right[index], predicted[index]),
                "f1": _percent(2 * right[index], seen[index] + predicted[index]),
                "most_taken_for": names[other] if taken else None,
                "times": taken,
            }
        )
    return rows


def _percent(part: int, whole: int) -> float | None:
    return 100 * int(part) / int(whole) if whole else None
