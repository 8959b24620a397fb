"""The condition numbers at which float32 is safe."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gcp.drawing.digits import power
from gcp.studies.fidelity.measure import Row, shown
from gcp.studies.fidelity.methods import Method

LIMITS = (1e-3, 1e-2)
LABEL, CELL = 25, 23  # letters of a name and of an answer
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


def table(ranges: Sequence[Safe], channels: int) -> str:
    """A line for each method: the condition numbers at which float32 is safe, for each question and limit."""
    own = [each for each in ranges if each.channels == channels]
    columns = list(dict.fromkeys((each.quantity, each.limit) for each in own))
    groups = "".join(
        f"{question:<{len(LIMITS) * CELL}}" for key, question in QUESTIONS.items() if any(c[0] == key for c in columns)
    )
    lines = [
        f"condition numbers at which float32 is safe; d = {channels}, upper quartile of the draws",
        " " * LABEL + groups,
        " " * LABEL + "".join(f"{f'by less than {power(limit)}':<{CELL}}" for _, limit in columns),
    ]
    for name in dict.fromkeys((each.head, each.form) for each in own):
        answers = {(each.quantity, each.limit): str(each) for each in own if (each.head, each.form) == name}
        cells = (f"{answers.get(column, 'no gradient'):<{CELL}}" for column in columns)
        lines.append(f"{Method(*name)!s:<{LABEL}}" + "".join(cells))
    return "\n".join(line.rstrip() for line in lines)
