"""`spectrum.csv`: a row for every observed step.

The file itself is the record. A resumed run keeps the rows up to its checkpoint and appends, so that no row is there
twice and none is from steps that were lost.
"""

import csv
import io
from pathlib import Path

from gcp.callbacks.monitor.observation import QUANTILES, Numbers
from gcp.engine.folder import write_text

COLUMNS = (
    "step",
    "epoch",
    *(f"q{percent}" for percent in QUANTILES),
    "condition",
    "effective_rank",
    "rank",
    "samples",
    "channels",
    "smallest_gap",
    "gradient_before",
    "gradient_after",
    "rule_share",
    "condition_before_norm",
    "effective_rank_before_norm",
)


class SpectrumTable:
    """The table of a run that stands at `step`; rows after it are dropped."""

    def __init__(self, path: Path, step: int):
        self.path = path
        kept = [row for row in read_rows(path) if int(row["step"]) <= step]
        write_text(path, _lines(kept, header=True))

    def add(self, row: Numbers) -> None:
        """Append a row; the line is with the system when this returns."""
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(_lines([row]))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a table, as text; none where there is no file. The last line of a killed run may be torn."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    rows = csv.DictReader(io.StringIO(text))
    return [row for row in rows if None not in row.values() and (row.get("step") or "").isdecimal()]


def _lines(rows: list, header: bool = False) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return text.getvalue()
