"""Time of a step and peak memory of the variants."""

from typing import Any

from gcp.drawing.figure import draw
from gcp.drawing.palette import LIGHT
from gcp.studies.report.blocks import Picture
from gcp.studies.report.ladder import Ladder
from gcp.studies.report.records import number
from gcp.studies.report.study import Study
from gcp.studies.report.wording import listed, significant

# column, factor to the unit, label
COSTS = (("seconds_per_step", 1e3, "time per step, ms"), ("peak_memory_mib", 1.0, "peak memory, MiB"))


def cost(study: Study) -> Picture | None:
    """Bars of both costs side by side; one that was not measured is left out."""
    shown = [item for item in COSTS if any(number(row, item[0]) is not None for row in study.rows)]
    rows = [row for row in study.rows if any(number(row, item[0]) is not None for item in shown)]
    if not rows:
        return None
    ladder = Ladder(study, rows)
    svg = draw("cost", ladder.height, lambda figure: _paint(figure, ladder, shown))
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


def _paint(figure: Any, ladder: Ladder, shown: list) -> None:
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    ladder.name(grid[0])
    for axes, (column, factor, label) in zip(grid, shown, strict=True):
        values = [_scaled(rung.row, column, factor) for rung in ladder.rungs]
        for rung, value in zip(ladder.rungs, values, strict=True):
            if value is not None:
                reference = ladder.study.is_reference(rung.row)
                axes.barh(rung.y, value, height=0.62, color=LIGHT["ink" if reference else "blue"])
                axes.text(value, rung.y, f" {significant(value)}", va="center", fontsize=7.5)
        axes.set_xlim(0, 1.2 * max(value for value in values if value is not None) or 1)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xlabel(label)
        axes.set_xticks([0])
