"""Rows of the tables of a study: text as it stands in the file, numbers where it is one."""

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

from gcp.errors import DataError

Record = Mapping[str, str]
TORN = "\0"  # stands in columns that a line does not reach


def read(path: Path) -> list[Record]:
    """Rows of a CSV file, without the last line where a kill tore it; an empty list where there is no file.

    Raises DataError for a file that is no text.
    """
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows: list[Record] = list(csv.DictReader(file, restkey="", restval=TORN))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no table of comma-separated text: {error}") from error
    return rows[:-1] if rows and TORN in rows[-1].values() else rows


def number(record: Record, column: str) -> float | None:
    """The finite number in a column, None where there is none."""
    try:
        value = float(record.get(column, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def numbers(records: Iterable[Record], column: str) -> list[float]:
    """The finite numbers of a column, in the order of the rows."""
    found = (number(record, column) for record in records)
    return [value for value in found if value is not None]


def middle(records: Iterable[Record], column: str) -> float | None:
    """The median of a column, None where it holds no number."""
    found = numbers(records, column)
    return median(found) if found else None


def distinct(records: Iterable[Record], *columns: str) -> list[tuple[str, ...]]:
    """The different values of some columns, in the order in which they occur."""
    return list(dict.fromkeys(tuple(record.get(column, "") for column in columns) for record in records))
