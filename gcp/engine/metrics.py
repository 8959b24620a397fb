"""The objective of a training, and the table of a run: one row per epoch in `metrics.csv`, and printed in columns.

An objective turns the outputs of the model for a batch into two sums over its images: the loss, which is
differentiated, and a number that is counted beside it. Both are of the images alone, so that batches, windows and
processes add up.

The file is written anew from the run's history each time. A resumed run therefore has neither a row twice nor a
row from after its checkpoint.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gcp.engine.folder import write_text

# name in the row, heading, width, format
Column = tuple[str, str, int, str]
Columns = tuple[Column, ...]

PLACE: Columns = (
    ("epoch", "epoch", 6, "d"),
    ("step", "step", 8, "d"),
    ("lr_features", "lr", 9, ".2e"),
)
SPEED: Columns = (
    ("images_per_second", "images/s", 9, ".0f"),
    ("seconds", "seconds", 8, ".1f"),
    ("data_wait", "wait %", 7, ".1f"),
)
# the columns of the objective stand between these two
CLASSES: Columns = (
    ("train_loss", "train loss", 11, ".4f"),
    ("train_accuracy", "train %", 8, ".2f"),
    ("val_loss", "val loss", 9, ".4f"),
    ("val_accuracy", "val %", 7, ".2f"),
)
LIKELIHOOD: Columns = (
    ("train_bits", "train bits", 12, ".4f"),
    ("val_bits", "val bits", 10, ".4f"),
)
COLUMNS = (*PLACE, *CLASSES, *SPEED)


def write_metrics(path: str | Path, history: list[dict]) -> None:
    """Write the rows as CSV, atomically. Columns are those of all rows; what a row lacks is left empty."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in history)
    write_text(path, text.getvalue())


def heading(further: Columns = (), measured: Columns = CLASSES) -> str:
    """Headings of the aligned table, with those of `further` columns at its end."""
    return "".join(f"{title:>{width}}" for _, title, width, _ in (*PLACE, *measured, *SPEED, *further))


def line(row: dict, further: Columns = (), measured: Columns = CLASSES) -> str:
    """One aligned row; `-` where there is no value. A frozen backbone shows the rate of the next part."""
    row = {**row, "lr_features": row.get("lr_features", _first_rate(row))}
    return "".join(
        f"{row[key]:>{width}{form}}" if row.get(key) is not None else f"{'-':>{width}}"
        for key, _, width, form in (*PLACE, *measured, *SPEED, *further)
    )


def _first_rate(row: dict) -> float | None:
    return next((value for key, value in row.items() if key.startswith("lr_")), None)


class Objective(Protocol):
    """What is minimised.

    Attributes:
        remedy: what to try where the numbers stop being finite, beside lower optim.lr.
        table: what of its columns is printed.
    """

    @property
    def remedy(self) -> str: ...

    @property
    def table(self) -> Columns: ...

    def __call__(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the losses, shape () with a graph, and what is counted, shape ()."""
        ...

    def columns(self, loss: float, counted: float, validation: dict) -> dict:
        """What the row of an epoch says: means over the images trained on, and the scores of the validation."""
        ...

    def text(self, loss: float, counted: float) -> str:
        """The same means in short, for the progress bar."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of logits (B, classes) with labels (B,), or mixed ones (B, classes); counted are right answers
    (with mixed labels: samples whose heavier label was found). `weights`: of the classes, None for 1 of each.
    """

    label_smoothing: float = 0.0
    weights: tuple[float, ...] | None = None
    remedy = "set optim.clip, or set head.precision=float64"
    table = CLASSES

    def __call__(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        weights = None if self.weights is None else outputs.new_tensor(self.weights)
        loss = F.cross_entropy(outputs, labels, weights, label_smoothing=self.label_smoothing, reduction="sum")
        with torch.no_grad():
            hard = labels.argmax(1) if labels.ndim == 2 else labels
            return loss, (outputs.argmax(1) == hard).sum()

    def columns(self, loss: float, counted: float, validation: dict) -> dict:
        """Accuracies in percent."""
        return {
            "train_loss": loss,
            "train_accuracy": 100 * counted,
            "val_loss": validation.get("loss"),
            "val_accuracy": validation.get("top1"),
        }

    def text(self, loss: float, counted: float) -> str:
        """Accuracy in percent."""
        return f"loss {loss:.4f}, accuracy {100 * counted:.2f} %"


def class_weights(labels: np.ndarray, classes: int, kind: str) -> tuple[float, ...]:
    """The weight of each class in the loss, of labels (N,): one over its number of images, or over the root of that,
    times what makes the mean over the images 1; 1 of a class without images.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    weights = np.maximum(counts, 1) ** (-1.0 if kind == "balanced" else -0.5)
    weights *= counts.sum() / max(float((counts * weights).sum()), 1e-12)
    return tuple(np.where(counts > 0, weights, 1.0).tolist())
