"""The table of a run: one row per epoch in `metrics.csv`, and the same row aligned for the eye.

The file is written anew from the run's history each time. A resumed run therefore has neither a row twice nor a
row from after its checkpoint.
"""

import csv
import io
from pathlib import Path

from gcp.engine.files import write_text

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
# between these two stands what an objective measures
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
