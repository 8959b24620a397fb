"""The variants below each other, as the rows of a chart: groups with their titles, colour and marker by standing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gcp.drawing.labels import shortened
from gcp.drawing.palette import LIGHT, STANDING
from gcp.studies.report.records import Record
from gcp.studies.report.study import Study

LABEL = 32  # letters of a variant beside its row
MEANING = {
    "reference": "reference",
    "better": "better than the reference",
    "equal": "equal with every seed",
    "undecided": "cannot be told apart",
    "worse": "worse",
    "untested": "no test",
}


class Rung(NamedTuple):
    """A variant and its height in the chart, downwards from 0."""

    y: float
    row: Record
    label: str


class Ladder:
    """Places of the variants, `height` in inches, and the axis that names them."""

    def __init__(self, study: Study, rows: Sequence[Record]):
        self.study = study
        self.rungs: list[Rung] = []
        self.titles: list[tuple[float, str]] = []
        y = 0.0
        wanted = {row["variant"] for row in rows}
        for title, group in study.groups:
            members = [row for row in group if row["variant"] in wanted]
            if title and members:
                self.titles.append((y, title))
                y += 1
            for row in members:
                self.rungs.append(Rung(y, row, study.short(row)))
                y += 1
            y += 0.4 if title else 0
        self.bottom = y
        self.height = 1.0 + 0.24 * max(3.0, y)

    def name(self, axes: Any) -> None:
        """Write the labels beside the rows, titles of groups bold."""
        rungs = [(rung.y, shortened(rung.label, LABEL)) for rung in self.rungs]
        ticks = sorted([*rungs, *((y, shortened(title, LABEL)) for y, title in self.titles)])
        axes.set_yticks([y for y, _ in ticks], [text for _, text in ticks])
        bold = {y for y, _ in self.titles}
        for (y, _), label in zip(ticks, axes.get_yticklabels(), strict=True):
            label.set_fontweight("bold" if y in bold else "normal")
        axes.set_ylim(self.bottom - 0.3, -0.7)
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")

    def look(self, row: Record) -> tuple[str, str]:
        """Colour and marker of a variant."""
        return STANDING[self.study.standing(row)]

    def keys(self) -> list[Any]:
        """Entries of the legend for the standings that occur."""
        from matplotlib.lines import Line2D

        found = {self.study.standing(rung.row) for rung in self.rungs}
        return [
            Line2D([], [], color=STANDING[key][0], marker=STANDING[key][1], ls="", markersize=4.5, label=text)
            for key, text in MEANING.items()
            if key in found
        ]


def window(values: Sequence[float], always: Sequence[float] = ()) -> tuple[float, float]:
    """Limits of an axis that shows nearly all values: those far from the bulk are left to `beyond`.

    Far is more than three widths of the middle half away from it; `always` is inside in any case.
    """
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    reach = 3 * max(high - low, 1e-3)
    kept = [value for value in ordered if low - reach <= value <= high + reach] + list(always)
    margin = 0.06 * max(max(kept) - min(kept), 1e-2)
    return min(kept) - margin, max(kept) + margin


def beyond(axes: Any, value: float, y: float, text: str) -> None:
    """Write a value that lies outside the axis at the edge where it would be."""
    low, high = axes.get_xlim()
    if value < low:
        axes.annotate(f"◂ {text}", (0, y), xycoords=("axes fraction", "data"), va="center", color=LIGHT["red"])
    elif value > high:
        axes.annotate(
            f"{text} ▸", (1, y), xycoords=("axes fraction", "data"), va="center", ha="right", color=LIGHT["red"]
        )
