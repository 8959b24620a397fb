"""The folder of a study as it stands, half done or whole: cells, table, curves, spectra, fidelity."""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import yaml

from gcp.errors import DataError
from gcp.studies.statistics import LEVEL

TableRow = Mapping[str, str]
TORN = "\0"  # stands in columns that a line does not reach


def read(path: Path) -> list[TableRow]:
    """Rows of a CSV file, without the last line where a kill tore it; an empty list where there is no file.

    Raises DataError for a file that is no text.
    """
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows: list[TableRow] = list(csv.DictReader(file, restkey="", restval=TORN))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no table of comma-separated text: {error}") from error
    return rows[:-1] if rows and TORN in rows[-1].values() else rows


def number(record: TableRow, column: str) -> float | None:
    """The finite number in a column, None where there is none."""
    try:
        value = float(record.get(column, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def numbers(records: Iterable[TableRow], column: str) -> list[float]:
    """The finite numbers of a column, in the order of the rows."""
    found = (number(record, column) for record in records)
    return [value for value in found if value is not None]


def middle(records: Iterable[TableRow], column: str) -> float | None:
    """The median of a column, None where it holds no number."""
    found = numbers(records, column)
    return median(found) if found else None


def distinct(records: Iterable[TableRow], *columns: str) -> list[tuple[str, ...]]:
    """The different values of some columns, in the order in which they occur."""
    return list(dict.fromkeys(tuple(record.get(column, "") for column in columns) for record in records))


STANDINGS = ("reference", "better", "equal", "undecided", "worse", "untested", "failed")


@dataclass(frozen=True)
class StudyResults:
    """What `open_study` found.

    `about` is study.yaml, `rows` are the variants in reading order, `tested` means that they come from table.csv, and
    `reference` is the label of the variant that the others are compared to, or a value such as `form=folded`: then
    each variant is compared to the one that differs from it in this value alone.
    """

    folder: Path
    about: Mapping[str, Any]
    cells: list[TableRow]
    rows: list[TableRow]
    fidelity: list[TableRow]
    tested: bool
    reference: str

    def text(self, key: str) -> str:
        """A word or sentence of study.yaml, empty where it is not given."""
        value = self.about.get(key)
        return "" if value is None else str(value)

    @property
    def title(self) -> str:
        """What to call it."""
        return self.text("title") or self.text("name") or self.folder.resolve().name

    @cached_property
    def keys(self) -> list[str]:
        """The keys of the grid that differ between variants."""
        grid = self.about.get("grid")
        known = [str(key) for key in grid] if isinstance(grid, Mapping) else []
        return [key for key in known if len(distinct(self.rows, key)) > 1]

    @property
    def tuned(self) -> Mapping[str, list[Any]]:
        """The values that were tried before for each variant, by key."""
        found = self.about.get("tune")
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def own_keys(self) -> set[str]:
        """Every key in which variants may differ: those of the grid, of their own settings, and what was tuned."""
        found = self.about.get("variants")
        settings = found.values() if isinstance(found, Mapping) else ()
        return {*self.keys, *self.tuned, *(str(key) for own in settings if isinstance(own, Mapping) for key in own)}

    @property
    def seeds(self) -> list[str]:
        """The seeds that were asked for."""
        given = self.about.get("seeds")
        return (
            [str(seed) for seed in given]
            if isinstance(given, list)
            else [seed for (seed,) in distinct(self.cells, "seed")]
        )

    @property
    def published(self) -> dict[str, Mapping[str, Any]]:
        """Published numbers by label: value, what, source."""
        found = self.about.get("published")
        found = found if isinstance(found, Mapping) else {}
        return {str(label): entry for label, entry in found.items() if isinstance(entry, Mapping)}

    def cells_of(self, label: str, state: str = "done") -> list[TableRow]:
        """The cells of a variant in a state."""
        return [cell for cell in self.cells if cell.get("variant") == label and cell.get("state") == state]

    def in_state(self, state: str) -> list[TableRow]:
        """All cells in a state."""
        return [cell for cell in self.cells if cell.get("state") == state]

    def curve(self, cell: TableRow, name: str = "metrics.csv") -> list[TableRow]:
        """Rows of a table in the run folder of a cell, none where there is no such table."""
        place = cell.get("id", "")
        return read(self.folder / "cells" / place / name) if place and Path(place).name == place else []

    def row(self, label: str) -> TableRow | None:
        """The line of a variant."""
        return next((row for row in self.rows if row["variant"] == label), None)

    @property
    def compared_to(self) -> str:
        """What the variants are compared to, in words."""
        return self.reference if self.row(self.reference) else f"the counterpart with {self.reference}"

    def reference_of(self, row: TableRow) -> str:
        """Label of the variant that a row is compared to, its own for a reference; empty where there is none."""
        if self.row(self.reference):
            return self.reference
        here = {key: row.get(key) for key in self.keys}
        sought = [
            here | {key: value}
            for key in self.keys
            for (value,) in distinct(self.rows, key)
            if named(key, value) == self.reference
        ]
        found = [each["variant"] for each in self.rows if {key: each.get(key) for key in self.keys} in sought]
        return found[0] if found else ""

    def is_reference(self, row: TableRow) -> bool:
        """Whether others are compared to this variant."""
        return row["variant"] == self.reference_of(row)

    def with_standing(self, standing: str) -> list[str]:
        """Labels of the variants of one standing, in reading order."""
        return [row["variant"] for row in self.rows if self.standing(row) == standing]

    def standing(self, row: TableRow) -> str:
        """One of STANDINGS: by Holm's p where there is one, else by whether the interval crosses zero.

        `equal`: the same accuracy with every seed, `untested`: too few seeds, or differences without any spread.
        """
        if number(row, "mean") is None:
            return "failed" if number(row, "failed") else "untested"
        if self.is_reference(row):
            return "reference"
        difference, p = number(row, "difference"), number(row, "p_holm")
        low, high = number(row, "low"), number(row, "high")
        if difference is None or (p is None and (low is None or high is None)):
            return "equal" if difference == 0 and (number(row, "n") or 0) > 1 else "untested"
        apart = p < LEVEL if p is not None else low > 0 or high < 0  # type: ignore[operator]
        return "undecided" if not apart else "better" if difference > 0 else "worse"

    @property
    def groups(self) -> list[tuple[str, list[TableRow]]]:
        """Rows by the value of the first of several keys; one group without a name where there is one key."""
        if len(self.keys) < 2:
            return [("", self.rows)]
        first = self.keys[0]
        return [
            (named(first, value), [row for row in self.rows if row.get(first) == value])
            for (value,) in distinct(self.rows, first)
        ]

    def short(self, row: TableRow) -> str:
        """Label inside its group: the values of the other keys."""
        if len(self.keys) < 2:
            return row["variant"]
        return ", ".join(named(key, row.get(key, "")) for key in self.keys[1:])


def named(key: str, value: str) -> str:
    """`svd_pade` of head.name, `form=published` of other keys."""
    return value if key in ("head.name", "settings") else f"{key.rpartition('.')[2]}={value}"


def open_study(folder: Path | str) -> StudyResults:
    """Read a study.

    Raises:
        DataError: no such folder, no cells.csv and no table.csv in it, or a file that cannot be read.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the folder of a study, which holds study.yaml and cells.csv.")
    about = _about(folder / "study.yaml")
    cells, table = ([row for row in read(folder / name) if row.get("variant")] for name in ("cells.csv", "table.csv"))
    if not cells and not table:
        raise DataError(
            f"{folder} holds no study: neither cells.csv nor table.csv has a row with a variant. Type gcp ablate --help"
        )
    rows = table or _summary(cells)
    reference = str(about.get("reference") or rows[0]["variant"])
    study = StudyResults(folder, about, cells, rows, read(folder / "fidelity.csv"), bool(table), reference)
    return replace(study, rows=_in_order(study))


def _about(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        about = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if about is not None and not isinstance(about, Mapping):
        raise DataError(f"{path} holds no keys with values, such as title: ...")
    return about or {}


def _summary(cells: list[TableRow]) -> list[TableRow]:
    """Means of a grid that has no table yet, without differences."""
    rows: list[TableRow] = []
    for (label,) in distinct(cells, "variant"):
        own = [cell for cell in cells if cell.get("variant") == label]
        scores = numbers((cell for cell in own if cell.get("state") == "done"), "test_top1")
        rows.append(
            {
                **own[0],
                "n": str(len(scores)),
                "failed": str(sum(cell.get("state") == "failed" for cell in own)),
                "mean": str(mean(scores)) if scores else "",
                "std": str(stdev(scores)) if len(scores) > 1 else "",
            }
        )
    return rows


def _in_order(study: StudyResults) -> list[TableRow]:
    """Best mean first, without a mean last; several keys: group by group of the first, the best group first."""

    def depth(row: TableRow) -> float:
        mean = number(row, "mean")
        return math.inf if mean is None else -mean

    ranked = sorted(study.rows, key=depth)
    if len(study.keys) < 2:
        return ranked
    order = [value for (value,) in distinct(ranked, study.keys[0])]
    return sorted(study.rows, key=lambda row: order.index(row.get(study.keys[0], "")))
