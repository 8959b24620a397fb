"""The errors as text, at most 120 columns wide, and as CSV."""

import csv
import io
import math
from collections.abc import Sequence

from gcp.drawing.digits import power
from gcp.studies.fidelity.measure import Row, shown
from gcp.studies.fidelity.methods import Method
from gcp.studies.fidelity.spectra import SWEEPS

LABEL, CELL, MOST = 25, 6, 15  # letters of a name and of a number, numbers in a line
AXES = {
    "condition": ("condition", "condition number"),
    "gap": ("gap", "smallest relative gap (a - b)/a"),
    "samples": ("rank_deficit", "null eigenvalues, from too few samples"),
    "zero_channels": ("rank_deficit", "null eigenvalues, from zero channels"),
}
FIRST = (
    *("source", "head", "form", "precision", "side", "condition", "gap", "rank_deficit", "samples", "channels"),
    *("error", "cosine", "norm_ratio", "oracle", "forward_error", "rounding", "overflow", "draws"),
)


def tables(rows: Sequence[Row]) -> str:
    """Median gradient errors, a table for each source, width and precision, on the side that a head takes itself."""
    chosen = shown(rows)
    keys = dict.fromkeys((row["source"], row["channels"], row["precision"]) for row in chosen)
    parts = []
    for key in keys:
        own = [row for row in chosen if (row["source"], row["channels"], row["precision"]) == key]
        parts.append(_sweep(own) if key[0] in SWEEPS else _single(own))
    return "\n\n".join(parts)


def _sweep(rows: list[Row]) -> str:
    first = rows[0]
    column, title = AXES[first["source"]]
    points = sorted({row[column] for row in rows}, reverse=first["source"] == "gap")
    while len(points) > MOST:
        points = points[::2]
    head = f"gradient error by {title}; d = {first['channels']}, {first['precision']}, {_common(rows)}"
    name = power if column != "rank_deficit" else str
    lines = [head, " " * LABEL + "".join(f"{name(point):>{CELL}}" for point in points)]
    for method in dict.fromkeys((row["head"], row["form"]) for row in rows):
        values = {row[column]: row["error"] for row in rows if (row["head"], row["form"]) == method}
        lines.append(f"{Method(*method)!s:<{LABEL}}" + "".join(f"{short(values[point]):>{CELL}}" for point in points))
    return "\n".join(lines)


def _single(rows: list[Row]) -> str:
    first = rows[0]
    title = (
        f"{first['source']}: {first['samples']} samples for {first['channels']} channels, condition number "
        f"{first['condition']:.2g}, smallest gap {first['gap']:.1e}, {first['rank_deficit']} null\n"
        f"{first['precision']}, {_common(rows)}"
    )
    header = "".join(f"{name:>{width}}" for name, width in COLUMNS.items())
    lines = [title, " " * LABEL + header]
    for row in rows:
        quartiles = f"{short(row['error_low'])} to {short(row['error_high'])}"
        cosine = "none" if math.isnan(row["cosine"]) else f"{row['cosine']:.4f}"
        cells = (short(row["error"]), quartiles, cosine, f"{row['norm_ratio']:.3g}", short(row["forward_error"]))
        label = f"{Method(row['head'], row['form'])!s:<{LABEL}}"
        lines.append(label + "".join(f"{c:>{w}}" for c, w in zip(cells, COLUMNS.values(), strict=True)))
    return "\n".join(lines)


COLUMNS = {"error": 8, "quartiles": 17, "cosine": 10, "norm": 10, "output": 10}


def _common(rows: list[Row]) -> str:
    return f"median of {rows[0]['draws']}, exact gradient in {rows[0]['oracle']}"


def short(value: float) -> str:
    """`2e-6`, `inf`; `-` for NaN."""
    if math.isnan(value):
        return "-"
    return "inf" if math.isinf(value) else power(value)


def to_csv(rows: Sequence[Row]) -> str:
    """The rows as CSV text: four digits, cosines twelve; `inf` as it is, an empty field for NaN."""
    columns = [*FIRST, *(key for key in rows[0] if key not in FIRST)] if rows else list(FIRST)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _field(key, value) for key, value in row.items()})
    return text.getvalue()


def _field(key: str, value: object) -> object:
    if isinstance(value, float):
        digits = 12 if key.startswith("cosine") else 4  # of a cosine, what it lacks to 1 is the news
        return "" if math.isnan(value) else f"{value:.{digits}g}"
    return value
