"""The folder of a study as it stands, half done or whole: cells, table, curves, spectra, fidelity."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from gcp.errors import DataError
from gcp.studies.report.records import Record, distinct, number, numbers, read
from gcp.studies.statistics import LEVEL

STANDINGS = ("reference", "better", "equal", "undecided", "worse", "untested", "failed")


@dataclass(frozen=True)
class Study:
    """What `open_study` found.

    `about` is study.yaml, `rows` are the variants in reading order, `tested` tells that they come from table.csv, and
    `reference` is the label of the variant that the others are compared to, or a value such as `form=folded`: then
    each variant is compared to the one that differs from it in this value alone.
    """

    folder: Path
    about: Mapping[str, Any]
    cells: list[Record]
    rows: list[Record]
    fidelity: list[Record]
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

    def cells_of(self, label: str, state: str = "done") -> list[Record]:
        """The cells of a variant in a state."""
        return [cell for cell in self.cells if cell.get("variant") == label and cell.get("state") == state]

    def in_state(self, state: str) -> list[Record]:
        """All cells in a state."""
        return [cell for cell in self.cells if cell.get("state") == state]

    def curve(self, cell: Record, name: str = "metrics.csv") -> list[Record]:
        """Rows of a table in the run folder of a cell, none where there is no such table."""
        place = cell.get("id", "")
        return read(self.folder / "cells" / place / name) if place and Path(place).name == place else []

    def row(self, label: str) -> Record | None:
        """The line of a variant."""
        return next((row for row in self.rows if row["variant"] == label), None)

    @property
    def rival(self) -> str:
        """What the variants are compared to, in words."""
        return self.reference if self.row(self.reference) else f"the counterpart with {self.reference}"

    def reference_of(self, row: Record) -> str:
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

    def is_reference(self, row: Record) -> bool:
        """Whether others are compared to this variant."""
        return row["variant"] == self.reference_of(row)

    def with_standing(self, standing: str) -> list[str]:
        """Labels of the variants of one standing, in reading order."""
        return [row["variant"] for row in self.rows if self.standing(row) == standing]

    def standing(self, row: Record) -> str:
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
    def groups(self) -> list[tuple[str, list[Record]]]:
        """Rows by the value of the first of several keys; one group without a name where there is one key."""
        if len(self.keys) < 2:
            return [("", self.rows)]
        first = self.keys[0]
        return [
            (named(first, value), [row for row in self.rows if row.get(first) == value])
            for (value,) in distinct(self.rows, first)
        ]

    def short(self, row: Record) -> str:
        """Label inside its group: the values of the other keys."""
        if len(self.keys) < 2:
            return row["variant"]
        return ", ".join(named(key, row.get(key, "")) for key in self.keys[1:])


def named(key: str, value: str) -> str:
    """`svd_pade` of head.name, `form=published` of other keys."""
    return value if key == "head.name" else f"{key.rpartition('.')[2]}={value}"


def open_study(folder: Path | str) -> Study:
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
            f"{folder} holds no study: neither cells.csv nor table.csv has a row with a variant. Type "
            "python scripts/ablate.py --help"
        )
    rows = table or _summary(cells)
    reference = str(about.get("reference") or rows[0]["variant"])
    study = Study(folder, about, cells, rows, read(folder / "fidelity.csv"), bool(table), reference)
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


def _summary(cells: list[Record]) -> list[Record]:
    """Means of a grid that has no table yet, without differences."""
    rows: list[Record] = []
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


def _in_order(study: Study) -> list[Record]:
    """Best mean first, without a mean last; several keys: group by group of the first, the best group first."""

    def depth(row: Record) -> float:
        mean = number(row, "mean")
        return math.inf if mean is None else -mean

    ranked = sorted(study.rows, key=depth)
    if len(study.keys) < 2:
        return ranked
    order = [value for (value,) in distinct(ranked, study.keys[0])]
    return sorted(study.rows, key=lambda row: order.index(row.get(study.keys[0], "")))
