"""The errors as text, at most 120 columns wide, and as CSV and JSON; the condition numbers at which float32 is safe."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gcp.drawing.labels import power
from gcp.engine.environment import describe_environment
from gcp.engine.folder import write_json, write_text
from gcp.studies.fidelity.figures import draw
from gcp.studies.fidelity.measure import SMALL, Row, shown
from gcp.studies.fidelity.methods import ComparedHead
from gcp.studies.fidelity.oracle import disagreement, upstream
from gcp.studies.fidelity.spectra import AXES, SWEEPS, FeatureMaps, quartiles, spectrum_of

LABEL, CELL, MOST = 25, 6, 15  # letters of a name and of a number, numbers in a line
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
        lines.append(
            f"{ComparedHead(*method)!s:<{LABEL}}" + "".join(f"{short(values[point]):>{CELL}}" for point in points)
        )
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
        label = f"{ComparedHead(row['head'], row['form'])!s:<{LABEL}}"
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


LIMITS = (1e-3, 1e-2)
ANSWER = 23  # letters of an answer
QUESTIONS = {
    "rounding": "float32 and float64 of the same method apart",
    "error": "float32 and the exact gradient apart",
}


@dataclass(frozen=True)
class Safe:
    """Condition numbers between which a quantity stays below a limit; None where it never does."""

    head: str
    form: str
    channels: int
    quantity: str
    limit: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return "nowhere"
        low, high = power(self.low), power(self.high)
        if self.low == self.high:
            return f"at {high}"
        return f"{low} to {high}" if self.low > 1 else f"up to {high}"


def safe_ranges(rows: Sequence[Row], quantities: Sequence[str] = tuple(QUESTIONS)) -> list[Safe]:
    """The longest run of measured condition numbers at which the upper quartile stays below each limit.

    Of the condition sweep in float32, on the side that a head takes by itself. A gradient that is zero has no rounding:
    methods that pass none are left out there.
    """
    found = []
    curves: dict[tuple, list[Row]] = {}
    for row in shown(rows):
        if row["source"] == "condition" and row["precision"] == "float32":
            curves.setdefault((row["head"], row["form"], row["channels"]), []).append(row)
    for (head, form, channels), curve in curves.items():
        curve = sorted(curve, key=lambda row: row["condition"])
        for quantity in quantities:
            if all(math.isnan(row[f"{quantity}_high"]) for row in curve):
                continue
            for limit in LIMITS:
                run = _longest([row["condition"] for row in curve], [row[f"{quantity}_high"] < limit for row in curve])
                ends = (run[0], run[-1]) if run else (None, None)
                found.append(Safe(head, form, channels, quantity, limit, *ends))
    return found


def _longest(points: Sequence[float], holds: Sequence[bool]) -> list[float]:
    best: list[float] = []
    run: list[float] = []
    for point, held in zip(points, holds, strict=True):
        run = [*run, point] if held else []
        best = run if len(run) > len(best) else best
    return best


def safe_table(ranges: Sequence[Safe], channels: int) -> str:
    """A line for each method: the condition numbers at which float32 is safe, for each question and limit."""
    own = [each for each in ranges if each.channels == channels]
    columns = list(dict.fromkeys((each.quantity, each.limit) for each in own))
    groups = "".join(
        f"{question:<{len(LIMITS) * ANSWER}}"
        for key, question in QUESTIONS.items()
        if any(c[0] == key for c in columns)
    )
    lines = [
        f"condition numbers at which float32 is safe; d = {channels}, upper quartile of the draws",
        " " * LABEL + groups,
        " " * LABEL + "".join(f"{f'by less than {power(limit)}':<{ANSWER}}" for _, limit in columns),
    ]
    for name in dict.fromkeys((each.head, each.form) for each in own):
        answers = {(each.quantity, each.limit): str(each) for each in own if (each.head, each.form) == name}
        cells = (f"{answers.get(column, 'no gradient'):<{ANSWER}}" for column in columns)
        lines.append(f"{ComparedHead(*name)!s:<{LABEL}}" + "".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def format_setting(setting: FeatureMaps) -> str:
    """The spectra of given maps in a few lines."""
    title = f"{setting.source}: {len(setting.maps)} maps of {setting.channels} channels and {setting.samples} samples"
    return "\n".join([title, *(f"  {name:<24}{text}" for name, text in _spectrum(setting).items())])


def _spectrum(setting: FeatureMaps) -> dict[str, str]:
    found = spectrum_of(setting.maps)
    values = {
        "condition number": found.condition,
        "rank": found.rank,
        "effective rank": found.effective_rank,
        "smallest relative gap": found.gap,
    }
    parts = {name: quartiles(each.double().tolist()) for name, each in values.items()}
    return {name: f"{middle:.3g} (quartiles {low:.3g} to {high:.3g})" for name, (low, middle, high) in parts.items()}


def write(
    folder: Path, options: Mapping[str, Any], points: Sequence[FeatureMaps], rows: Sequence[Row], told: Sequence[str]
) -> list[str]:
    """Write everything, each file whole or not at all; returns the names of the figures.

    Args:
        folder: that exists.
        options: the command line as plain values.
        points: all settings; how far the two oracles are apart is recorded for those that both can do.
        rows: of `measure`.
        told: the tables of `safety`.
    """
    oracles = [
        {
            **{key: getattr(point, key) for key in ("source", "gap", "rank_deficit", "channels")},
            "condition": point.condition if math.isfinite(point.condition) else None,
            "largest_difference": max(
                disagreement(x, upstream(point.channels, options["seed"] + 1)) for x in point.maps
            ),
        }
        for point in points
        if point.channels <= SMALL
    ]
    about = {
        "environment": describe_environment(torch.device("cpu")),
        "settings": dict(options),
        "spectra": {point.source: _spectrum(point) for point in points if point.source not in SWEEPS},
        "float32": [text.splitlines() for text in told],
        "oracles": oracles,
    }
    write_text(folder / "fidelity.csv", to_csv(rows))
    write_json(folder / "fidelity.json", about)
    return [path.name for path in draw(rows, folder / "figures")]
