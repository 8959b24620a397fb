"""Training curves of the variants: accuracy on validation, and the loss."""

from typing import Any, NamedTuple

from gcp.drawing.figure import draw
from gcp.drawing.labels import legend, log_axis, whole_numbers
from gcp.drawing.palette import LIGHT
from gcp.drawing.panels import panels, panels_height
from gcp.studies.report.bands import Band, band, paint, series
from gcp.studies.report.blocks import Picture
from gcp.studies.report.records import Record
from gcp.studies.report.study import Study
from gcp.studies.report.wording import listed, percent, significant


class Quantity(NamedTuple):
    """A column of metrics.csv, the file of its figure, its name, and how its end is told."""

    column: str
    name: str
    label: str
    rising: bool


QUANTITIES = (
    Quantity("val_accuracy", "validation", "accuracy on validation, %", True),
    Quantity("train_loss", "loss", "training loss", False),
)


def training(study: Study) -> list[Picture]:
    """A figure for each quantity that some run has."""
    return [picture for quantity in QUANTITIES if (picture := _picture(study, quantity))]


def _picture(study: Study, quantity: Quantity) -> Picture | None:
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


def _band(study: Study, row: Record, column: str) -> Band | None:
    return band([series(study.curve(cell), column) for cell in study.cells_of(row["variant"])], len(study.rows))


def _broken(study: Study, row: Record, column: str) -> list[Any]:
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
        axes.set_ylim(low - 0.05 * max(top - low, 1.0), top + 0.05 * max(top - low, 1.0))
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
