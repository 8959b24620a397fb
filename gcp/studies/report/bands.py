"""A quantity over training: the median of the seeds, and the band from the lowest to the highest of them."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from gcp.studies.report.records import Record, number

Series = Mapping[float, float]


class Band(NamedTuple):
    """Places on the axis of time, and the values there."""

    x: list[float]
    middle: list[float]
    low: list[float]
    high: list[float]


def series(rows: Sequence[Record], column: str, x: str = "epoch", scale: float = 1.0) -> Series:
    """{place: value} of the rows that have both numbers; places are multiplied by `scale`."""
    pairs = ((number(row, x), number(row, column)) for row in rows)
    return {place * scale: value for place, value in pairs if place is not None and value is not None}


def band(runs: Sequence[Series], panels: int) -> Band | None:
    """Over the places that all runs have, as many as one of `panels` panels shows; None where there are none."""
    runs = [run for run in runs if run]
    common = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    if not common:
        return None
    x = [common[place] for place in thinned(len(common), panels)]
    values = [[run[place] for run in runs] for place in x]
    return Band(x, [median(each) for each in values], [min(each) for each in values], [max(each) for each in values])


def paint(axes: Any, found: Band | None, colour: str, ls: Any = "-", filled: bool = True) -> None:
    """Line and band; a single place as a dot."""
    if found is None:
        return
    if filled and found.low != found.high:
        axes.fill_between(found.x, found.low, found.high, color=colour, alpha=0.2, lw=0)
    axes.plot(found.x, found.middle, color=colour, ls=ls, marker="o" if len(found.x) == 1 else None, markersize=3)


def thinned(length: int, panels: int) -> list[int]:
    """Places of a long series that are drawn in one of so many panels, evenly spaced, the last one included."""
    most = min(40, max(16, 400 // panels))  # keeps the figure below 60 kB
    step = -(-length // most)
    return sorted({*range(length - 1, -1, -step)})
