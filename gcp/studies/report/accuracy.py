"""Accuracy of the variants with their single runs, and their paired differences to the reference."""

from itertools import chain
from typing import Any

from gcp.drawing.figure import draw
from gcp.drawing.labels import legend
from gcp.drawing.palette import LIGHT
from gcp.studies import statistics
from gcp.studies.report.blocks import Picture
from gcp.studies.report.ladder import Ladder, beyond, window
from gcp.studies.report.records import Record, number, numbers
from gcp.studies.report.study import Study
from gcp.studies.report.wording import listed, percent, signed

NEAR_LABEL = ("axes fraction", "data")


def half_width(row: Record) -> float | None:
    """Half of the 95 % interval of a mean; None for fewer than two runs."""
    count, std = number(row, "n"), number(row, "std")
    return None if std is None or count is None or count < 2 else statistics.half_width(std, int(count))


def accuracy(study: Study) -> Picture | None:
    """Means with intervals, runs as dots."""
    rows = [row for row in study.rows if number(row, "mean") is not None]
    if not rows:
        return None
    ladder = Ladder(study, [*rows, *(row for row in study.rows if study.standing(row) == "failed")])
    svg = draw("accuracy", ladder.height, lambda figure: _paint_accuracy(figure, study, ladder))
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
    alt = f"Test accuracy of {len(rows)} variants, best first: " + listed(
        [f"{row['variant']} {percent(number(row, 'mean'))} %" for row in rows]
    )
    return Picture("accuracy", alt, caption, svg)


def _paint_accuracy(figure: Any, study: Study, ladder: Ladder) -> None:
    axes = figure.subplots()
    ladder.name(axes)
    rungs = [rung for rung in ladder.rungs if number(rung.row, "mean") is not None]
    for rung in ladder.rungs:
        if rung not in rungs:
            axes.annotate("no run finished", (0.01, rung.y), xycoords=NEAR_LABEL, va="center", color=LIGHT["mute"])
    means = [number(rung.row, "mean") or 0.0 for rung in rungs]
    widths = [half_width(rung.row) or 0.0 for rung in rungs]
    runs = [numbers(study.cells_of(rung.row["variant"]), "test_top1") for rung in rungs]
    ends = [mean + side * width for mean, width in zip(means, widths, strict=True) for side in (-1, 1)]
    low, high = window([min(100.0, max(0.0, end)) for end in chain(ends, *runs)])
    axes.set_xlim(low, min(high, 100.4))
    for rung, mean, width, scores in zip(rungs, means, widths, runs, strict=True):
        colour, marker = ladder.look(rung.row)
        places = [rung.y + 0.32] * len(scores)
        axes.plot(scores, places, ls="", marker="o", markersize=2.6, color=colour, alpha=0.55, mew=0)
        if width:
            axes.plot([mean - width, min(mean + width, 100)], [rung.y] * 2, color=colour)
        axes.plot(mean, rung.y, ls="", marker=marker, markersize=5, color=colour)
        beyond(axes, mean, rung.y, f"{percent(mean)} %")
    reference = study.row(study.reference)
    if reference and number(reference, "mean") is not None:
        axes.axvline(number(reference, "mean"), color=LIGHT["mute"], lw=0.8, ls=(0, (4, 3)), zorder=0)
    axes.set_xlabel("test accuracy, top-1, %")
    legend(figure, ladder.keys())


def differences(study: Study) -> Picture | None:
    """Forest plot of the paired differences."""
    rows = [row for row in study.rows if number(row, "low") is not None and number(row, "difference") is not None]
    if not rows:
        return None
    ladder = Ladder(study, rows)
    svg = draw("differences", ladder.height, lambda figure: _paint_differences(figure, ladder))
    clear = [row["variant"] for row in rows if (number(row, "low") or 0) > 0 or (number(row, "high") or 0) < 0]
    crossing = [row["variant"] for row in rows if row["variant"] not in clear]
    see = f"Clear of zero: {listed(clear, 6)}. " if clear else "No interval is clear of zero. "
    see += f"{len(crossing)} of {len(rows)} cross it: there these seeds show no difference. " if crossing else ""
    corrected = [row["variant"] for row in rows if row["variant"] in clear and study.standing(row) == "undecided"]
    if corrected:
        see += f"The marks also count that {len(rows)} questions were asked at once (Holm), after which "
        see += f"{listed(corrected, 6)} cannot be told apart. "
    caption = (
        f"{see}Marks are mean differences to {study.rival} over runs of the same seed, in points of accuracy; to "
        "the right is better. Bars are 95 % intervals of the paired difference; one that crosses zero leaves open "
        "which of the two is better."
    )
    alt = f"Paired differences to {study.rival}: " + listed(
        [f"{row['variant']} {signed(number(row, 'difference'))}" for row in rows]
    )
    return Picture("differences", alt, caption, svg)


def _paint_differences(figure: Any, ladder: Ladder) -> None:
    axes = figure.subplots()
    ladder.name(axes)
    values = [number(rung.row, key) or 0.0 for rung in ladder.rungs for key in ("difference", "low", "high")]
    axes.set_xlim(*window(values, [0.0]))
    axes.axvline(0, color=LIGHT["ink"], lw=0.8)
    for rung in ladder.rungs:
        colour, marker = ladder.look(rung.row)
        difference = number(rung.row, "difference") or 0.0
        axes.plot([number(rung.row, "low"), number(rung.row, "high")], [rung.y] * 2, color=colour)
        axes.plot(difference, rung.y, ls="", marker=marker, markersize=5, color=colour)
        beyond(axes, difference, rung.y, signed(difference))
    axes.set_xlabel(f"difference to {ladder.study.rival}, points of test accuracy")
    legend(figure, ladder.keys())
