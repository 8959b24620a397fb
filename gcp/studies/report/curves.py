"""Quantities over training: the median of the seeds, and the band from the lowest to the highest of them."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from gcp.drawing.figure import LIGHT, draw
from gcp.drawing.labels import legend, log_axis, panels, panels_height, whole_numbers
from gcp.studies.report.answer import listed, percent, significant
from gcp.studies.report.render import Picture
from gcp.studies.report.results import StudyResults, TableRow, number

Series = Mapping[float, float]


class Band(NamedTuple):
    """Places on the axis of time, and the values there."""

    x: list[float]
    middle: list[float]
    low: list[float]
    high: list[float]


def series(rows: Sequence[TableRow], column: str, x: str = "epoch", scale: float = 1.0) -> Series:
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


class Quantity(NamedTuple):
    """A column of metrics.csv, the file of its figure, its name, and how its end is written."""

    column: str
    name: str
    label: str
    rising: bool


QUANTITIES = (
    Quantity("val_accuracy", "validation", "accuracy on validation, %", True),
    Quantity("train_loss", "loss", "training loss", False),
)


def training(study: StudyResults) -> list[Picture]:
    """A figure for each quantity that some run has."""
    return [picture for quantity in QUANTITIES if (picture := _picture(study, quantity))]


def _picture(study: StudyResults, quantity: Quantity) -> Picture | None:
    bands = {row["variant"]: _band(study, row, quantity.column) for row in study.rows}
    broken = {row["variant"]: _broken(study, row, quantity.column) for row in study.rows}
    rows = [row for row in study.rows if bands[row["variant"]] or broken[row["variant"]]]
    found = {label: each for label, each in bands.items() if each}
    if not rows or not found:
        return None

    def fill(figure: Any) -> None:
        grid = panels(figure, [row["variant"] for row in rows])
        for axes, row in zip(grid, rows, strict=True):
            label = row["variant"]
            paint(axes, found.get(study.reference_of(row)), LIGHT["mute"], (0, (3, 2)), filled=False)
            paint(axes, found.get(label), LIGHT["blue"])
            for run in broken[label]:
                axes.plot(list(run), list(run.values()), color=LIGHT["red"], lw=0.8, ls=":")
                axes.plot(*list(run.items())[-1], color=LIGHT["red"], marker="x", markersize=4)
        _scale(grid[0], list(found.values()), quantity)
        whole_numbers(grid[0].xaxis)
        figure.supxlabel("epoch")
        figure.supylabel(quantity.label)
        legend(figure, _keys(any(study.reference_of(row) in found for row in rows), any(broken.values())))

    svg = draw(quantity.name, panels_height([row["variant"] for row in rows]), fill)
    alt = f"{quantity.label} over the epochs, one panel for each of {len(rows)} variants; at the end " + listed(
        [f"{label} {_value(each.middle[-1], quantity)}" for label, each in found.items()]
    )
    return Picture(quantity.name, alt, _caption(found, broken, quantity), svg)


def _band(study: StudyResults, row: TableRow, column: str) -> Band | None:
    return band([series(study.curve(cell), column) for cell in study.cells_of(row["variant"])], len(study.rows))


def _broken(study: StudyResults, row: TableRow, column: str) -> list[Any]:
    """Curves of failed runs, up to where they ended."""
    runs = [series(study.curve(cell), column) for cell in study.cells_of(row["variant"], "failed")]
    return [run for run in runs if run]


def _value(value: float, quantity: Quantity) -> str:
    return f"{percent(value)} %" if quantity.rising else significant(value)


def _caption(found: dict[str, Band], broken: dict[str, list], quantity: Quantity) -> str:
    ends = {label: each.middle[-1] for label, each in found.items()}
    best, worst = (choose(ends, key=ends.__getitem__) for choose in ((max, min) if quantity.rising else (min, max)))
    see = f"At the end {best} is at {_value(ends[best], quantity)}"
    see += f" and {worst} at {_value(ends[worst], quantity)}." if best != worst else "."
    widths = {label: max(h - lo for h, lo in zip(each.high, each.low, strict=True)) for label, each in found.items()}
    widest = max(widths, key=widths.__getitem__)
    if widths[widest] and quantity.rising:
        see += f" The band is widest for {widest}: there the seed matters most on the way."
    failed = [label for label, runs in broken.items() if runs]
    see += f" Runs of {listed(failed, 6)} ended early, at the cross." if failed else ""
    aim = (
        "How soon a line leaves the reference's, and whether it comes back, is what to look for; a jump is a step gone "
        "wrong. The lowest twentieth of the values is cut off."
        if quantity.rising
        else "On this logarithmic axis a line below the reference's fits the training images better, which need not "
        "help on others."
    )
    return f"{see} {aim} Line: median of the seeds; band: lowest to highest of them; dashed: the reference."


def _scale(axes: Any, found: list[Band], quantity: Quantity) -> None:
    values = sorted(value for each in found for value in each.middle)
    if quantity.rising:
        top = max(max(each.high) for each in found)
        low = values[len(values) // 20]
        margin = 0.05 * max(top - low, 1.0)
        axes.set_ylim(max(low - margin, 0.0), min(top + margin, 100.5))
    elif values[0] > 0:
        axes.set_yscale("log")
        axes.set_ylim(0.8 * values[0], 1.25 * values[-1])
        log_axis(axes.yaxis, significant)


def _keys(reference: bool, broken: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    keys = [Line2D([], [], color=LIGHT["blue"], label="variant")]
    if reference:
        keys.append(Line2D([], [], color=LIGHT["mute"], ls=(0, (3, 2)), label="reference"))
    if broken:
        keys.append(Line2D([], [], color=LIGHT["red"], ls=":", lw=0.8, marker="x", markersize=4, label="failed run"))
    return keys


COLUMNS = (
    *("q0", "q5", "q25", "q50", "q75", "q95", "q100", "condition", "effective_rank", "rank", "samples", "channels"),
    *("rule_share", "condition_before_norm", "effective_rank_before_norm"),
)


class Monitored(NamedTuple):
    """A variant and its bands over the seeds, by column; columns without a number are absent."""

    label: str
    bands: dict[str, Band]

    def last(self, column: str) -> float | None:
        """The median of the seeds at the last record."""
        return self.bands[column].middle[-1] if column in self.bands else None


def monitored(study: StudyResults) -> tuple[str, list[Monitored]]:
    """Unit of the axis of time, and the variants with a monitored run."""
    unit, scale = _time(study)
    found = [_monitored(study, row, scale) for row in study.rows]
    return unit, [each for each in found if each.bands]


def _time(study: StudyResults) -> tuple[str, float | None]:
    """Unit of the axis and epochs per step: epochs where a run records the steps of one, else steps."""
    for cell in study.in_state("done"):
        rows = study.curve(cell)
        epoch, step = (number(rows[-1], key) for key in ("epoch", "step")) if rows else (None, None)
        if epoch and step:
            return "epoch", epoch / step
    return "step", None


def _monitored(study: StudyResults, row: TableRow, scale: float | None) -> Monitored:
    tables = [study.curve(cell, "spectrum.csv") for cell in study.cells_of(row["variant"])]
    bands = {}
    for column in COLUMNS:
        if found := band([series(table, column, "step", scale or 1.0) for table in tables], len(study.rows)):
            bands[column] = found
    return Monitored(row["variant"], bands)
