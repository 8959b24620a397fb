"""Charts with a row for each variant: accuracy with the single runs, paired differences, time and memory."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from gcp.drawing.figure import LIGHT, STANDING, draw
from gcp.drawing.labels import legend, shortened
from gcp.studies import statistics
from gcp.studies.report.answer import listed, percent, signed, significant
from gcp.studies.report.render import Picture
from gcp.studies.report.results import StudyResults, TableRow, number, numbers

LABEL = 32  # letters of a variant beside its row
MEANING = {
    "reference": "reference",
    "better": "better than the reference",
    "equal": "equal with every seed",
    "undecided": "cannot be told apart",
    "worse": "worse",
    "untested": "no test",
}


class VariantRow(NamedTuple):
    """A variant and its height in the chart, downwards from 0."""

    y: float
    row: TableRow
    label: str


class VariantAxis:
    """Places of the variants, `height` in inches, and the axis that names them."""

    def __init__(self, study: StudyResults, rows: Sequence[TableRow]):
        self.study = study
        self.entries: list[VariantRow] = []
        self.titles: list[tuple[float, str]] = []
        y = 0.0
        wanted = {row["variant"] for row in rows}
        for title, group in study.groups:
            members = [row for row in group if row["variant"] in wanted]
            if title and members:
                self.titles.append((y, title))
                y += 1
            for row in members:
                self.entries.append(VariantRow(y, row, study.short(row)))
                y += 1
            y += 0.4 if title else 0
        self.bottom = y
        self.height = 1.0 + 0.24 * max(3.0, y)

    def name(self, axes: Any) -> None:
        """Write the labels beside the rows, titles of groups bold."""
        entries = [(entry.y, shortened(entry.label, LABEL)) for entry in self.entries]
        ticks = sorted([*entries, *((y, shortened(title, LABEL)) for y, title in self.titles)])
        axes.set_yticks([y for y, _ in ticks], [text for _, text in ticks])
        bold = {y for y, _ in self.titles}
        for (y, _), label in zip(ticks, axes.get_yticklabels(), strict=True):
            label.set_fontweight("bold" if y in bold else "normal")
        axes.set_ylim(self.bottom - 0.3, -0.7)
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")

    def look(self, row: TableRow) -> tuple[str, str]:
        """Colour and marker of a variant."""
        return STANDING[self.study.standing(row)]

    def keys(self) -> list[Any]:
        """Entries of the legend for the standings that occur."""
        from matplotlib.lines import Line2D

        found = {self.study.standing(entry.row) for entry in self.entries}
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


NEAR_LABEL = ("axes fraction", "data")


def half_width(row: TableRow) -> float | None:
    """Half of the 95 % interval of a mean; None for fewer than two runs."""
    count, std = number(row, "n"), number(row, "std")
    return None if std is None or count is None or count < 2 else statistics.half_width(std, int(count))


def accuracy(study: StudyResults) -> Picture | None:
    """Means with intervals, runs as dots."""
    rows = [row for row in study.rows if number(row, "mean") is not None]
    if not rows:
        return None
    axis = VariantAxis(study, [*rows, *(row for row in study.rows if study.standing(row) == "failed")])
    svg = draw("accuracy", axis.height, lambda figure: _paint_accuracy(figure, study, axis))
    best, last = (choose(rows, key=lambda row: number(row, "mean") or 0.0) for choose in (max, min))
    widest = max(rows, key=lambda row: number(row, "std") or 0.0)
    see = f"Means lie between {percent(number(last, 'mean'))} ({last['variant']}) and "
    see += f"{percent(number(best, 'mean'))} % ({best['variant']})."
    if number(widest, "std"):
        scores = numbers(study.cells_of(widest["variant"]), "test_top1")
        span = f", from {percent(min(scores))} to {percent(max(scores))} %" if len(scores) > 1 else ""
        see += f" The seed alone moves the runs of {widest['variant']} most{span}: a single run decides little."
    caption = (
        f"{see} The mark is the mean of the runs, the bar its 95 % t interval, the dots below are the runs. Where runs "
        "of one seed go up and down together, these bars are wider than the question needs: two may overlap although "
        "the paired differences tell the variants apart."
    )
    alt = f"Test accuracy of {len(rows)} variants, in the order of the figure: " + listed(
        [f"{row['variant']} {percent(number(row, 'mean'))} %" for row in rows]
    )
    return Picture("accuracy", alt, caption, svg)


def _paint_accuracy(figure: Any, study: StudyResults, axis: VariantAxis) -> None:
    axes = figure.subplots()
    axis.name(axes)
    entries = [entry for entry in axis.entries if number(entry.row, "mean") is not None]
    for entry in axis.entries:
        if entry not in entries:
            axes.annotate("no run finished", (0.01, entry.y), xycoords=NEAR_LABEL, va="center", color=LIGHT["mute"])
    means = [number(entry.row, "mean") or 0.0 for entry in entries]
    widths = [half_width(entry.row) or 0.0 for entry in entries]
    runs = [numbers(study.cells_of(entry.row["variant"]), "test_top1") for entry in entries]
    ends = [mean + side * width for mean, width in zip(means, widths, strict=True) for side in (-1, 1)]
    low, high = window([min(100.0, max(0.0, end)) for end in chain(ends, *runs)])
    axes.set_xlim(max(low, -0.4), min(high, 100.4))
    for entry, mean, width, scores in zip(entries, means, widths, runs, strict=True):
        colour, marker = axis.look(entry.row)
        places = [entry.y + 0.32] * len(scores)
        axes.plot(scores, places, ls="", marker="o", markersize=2.6, color=colour, alpha=0.55, mew=0)
        if width:
            axes.plot([mean - width, min(mean + width, 100)], [entry.y] * 2, color=colour)
        axes.plot(mean, entry.y, ls="", marker=marker, markersize=5, color=colour)
        beyond(axes, mean, entry.y, f"{percent(mean)} %")
    reference = study.row(study.reference)
    if reference and number(reference, "mean") is not None:
        axes.axvline(number(reference, "mean"), color=LIGHT["mute"], lw=0.8, ls=(0, (4, 3)), zorder=0)
    axes.set_xlabel("test accuracy, top-1, %")
    legend(figure, axis.keys())


def differences(study: StudyResults) -> Picture | None:
    """Forest plot of the paired differences."""
    equal = [row for row in study.rows if study.standing(row) == "equal"]
    rows = [row for row in study.rows if number(row, "low") is not None and number(row, "difference") is not None]
    if not rows and not equal:
        return None
    axis = VariantAxis(study, [*rows, *equal])
    svg = draw("differences", axis.height, lambda figure: _paint_differences(figure, axis))
    clear = [row["variant"] for row in rows if (number(row, "low") or 0) > 0 or (number(row, "high") or 0) < 0]
    crossing = [row["variant"] for row in rows if row["variant"] not in clear]
    see = f"Clear of zero: {listed(clear, 6)}. " if clear else "No interval is clear of zero. " if rows else ""
    see += f"{len(crossing)} of {len(rows)} cross it: there these runs show no difference. " if crossing else ""
    see += f"Without a bar, the same with every seed: {listed([row['variant'] for row in equal], 6)}. " if equal else ""
    corrected = [row["variant"] for row in rows if row["variant"] in clear and study.standing(row) == "undecided"]
    if corrected:
        see += f"The marks also count that {len(rows)} questions were asked at once (Holm), after which "
        see += f"{listed(corrected, 6)} cannot be told apart. "
    caption = (
        f"{see}Marks are mean differences to {study.compared_to} over runs of the same seed, in points of accuracy; to "
        "the right is better. Bars are 95 % intervals of the paired difference; one that crosses zero leaves open "
        "which of the two is better."
    )
    alt = f"Paired differences to {study.compared_to}: " + listed(
        [f"{row['variant']} {signed(number(row, 'difference'))}" for row in [*rows, *equal]]
    )
    return Picture("differences", alt, caption, svg)


def _paint_differences(figure: Any, axis: VariantAxis) -> None:
    axes = figure.subplots()
    axis.name(axes)
    values = [number(entry.row, key) or 0.0 for entry in axis.entries for key in ("difference", "low", "high")]
    axes.set_xlim(*window(values, [0.0]))
    axes.axvline(0, color=LIGHT["ink"], lw=0.8)
    for entry in axis.entries:
        colour, marker = axis.look(entry.row)
        difference = number(entry.row, "difference") or 0.0
        low, high = number(entry.row, "low"), number(entry.row, "high")
        if low is not None and high is not None:
            axes.plot([low, high], [entry.y] * 2, color=colour)
        axes.plot(difference, entry.y, ls="", marker=marker, markersize=5, color=colour)
        beyond(axes, difference, entry.y, signed(difference))
    axes.set_xlabel(f"difference to {axis.study.compared_to}, points of test accuracy")
    legend(figure, axis.keys())


# column, factor to the unit, label
COSTS = (("seconds_per_step", 1e3, "time per step, ms"), ("peak_memory_mib", 1.0, "peak memory, MiB"))


def cost(study: StudyResults) -> Picture | None:
    """Bars of both costs side by side; one that was not measured is left out."""
    shown = [item for item in COSTS if any(number(row, item[0]) is not None for row in study.rows)]
    rows = [row for row in study.rows if any(number(row, item[0]) is not None for item in shown)]
    if not rows:
        return None
    axis = VariantAxis(study, rows)
    svg = draw("cost", axis.height, lambda figure: _paint(figure, axis, shown))
    see = " ".join(_extremes(rows, *item) for item in shown)
    caption = (
        f"{see} Shorter is better. A step is a forward, a backward and an update of the whole network, so the "
        "differences come from the variants and the common part from the backbone. Time is the median over steps and "
        "runs, memory the highest of the runs. Runs that share a machine disturb each other: read the order, not the "
        "last digit."
    )
    alt = "Cost by variant: " + listed(
        [f"{row['variant']} {significant(_scaled(row, *COSTS[0][:2]))} ms" for row in rows]
    )
    return Picture("cost", alt, caption, svg)


def _scaled(row: Any, column: str, factor: float) -> float | None:
    value = number(row, column)
    return None if value is None else value * factor


def _extremes(rows: list, column: str, factor: float, label: str) -> str:
    known = [row for row in rows if number(row, column) is not None]
    low, high = (choose(known, key=lambda row: number(row, column) or 0.0) for choose in (min, max))
    what, unit = label.split(", ")
    least, most = _scaled(low, column, factor), _scaled(high, column, factor)
    if low is high or not least:
        return f"The {what} of {low['variant']} is {significant(least)} {unit}."
    return (
        f"The {what} goes from {significant(least)} {unit} ({low['variant']}) to {significant(most)} {unit} "
        f"({high['variant']}), {significant((most or 0) / least)} times as much."
    )


def _paint(figure: Any, axis: VariantAxis, shown: list) -> None:
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    axis.name(grid[0])
    for axes, (column, factor, label) in zip(grid, shown, strict=True):
        values = [_scaled(entry.row, column, factor) for entry in axis.entries]
        for entry, value in zip(axis.entries, values, strict=True):
            if value is not None:
                reference = axis.study.is_reference(entry.row)
                axes.barh(entry.y, value, height=0.62, color=LIGHT["ink" if reference else "blue"])
                axes.text(value, entry.y, f" {significant(value)}", va="center", fontsize=7.5)
        axes.set_xlim(0, 1.2 * max(value for value in values if value is not None) or 1)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xlabel(label)
        axes.set_xticks([0])
