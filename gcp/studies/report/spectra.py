"""The covariance of each variant over training: eigenvalues, condition, rank, and what a rule does to the gradient."""

from collections.abc import Callable, Sequence
from typing import Any

from gcp.drawing.figure import LIGHT, draw
from gcp.drawing.labels import legend, log_axis, panels, panels_height, whole_numbers
from gcp.ops.eigenvalues import CONDITION_LIMITS, SHARE_LIMIT
from gcp.studies.report.answer import listed, power, significant
from gcp.studies.report.curves import Band, Monitored, monitored, paint
from gcp.studies.report.render import Picture
from gcp.studies.report.results import StudyResults


def spectra(study: StudyResults) -> list[Picture]:
    """The figures for which some run of the study was monitored."""
    unit, found = monitored(study)
    makers = (_eigenvalues, _condition, _rank, _share)
    return [picture for maker in makers if found and (picture := maker(found, unit))]


def _figure(
    name: str, found: Sequence[Monitored], unit: str, label: str, fill: Callable, keys: Sequence[Any], log: bool
) -> str:
    def whole(figure: Any) -> None:
        grid = panels(figure, [each.label for each in found])
        for axes, each in zip(grid, found, strict=True):
            fill(axes, each.bands)
        if log:
            grid[0].set_yscale("log")
            log_axis(grid[0].yaxis)
        else:
            grid[0].set_ylim(bottom=0)
        whole_numbers(grid[0].xaxis)
        figure.supxlabel(unit)
        figure.supylabel(label)
        legend(figure, keys)

    return draw(name, panels_height([each.label for each in found]), whole)


def _line(colour: str, text: str, ls: Any = "-") -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=LIGHT[colour], ls=ls, label=text)


def _patch(alpha: float, text: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=LIGHT["blue"], alpha=alpha, lw=0, label=text)


def _ends(found: Sequence[Monitored], column: str, words: Callable[[float | None], str]) -> str:
    """Where the variants end: `between 1e2 (a) and 1e4 (b)`, or `at 1e2` where they all do."""
    low, high = (choose(found, key=lambda each: each.last(column) or 0.0) for choose in (min, max))
    least, most = words(low.last(column)), words(high.last(column))
    return f"at {least}" if least == most else f"between {least} ({low.label}) and {most} ({high.label})"


def _each(found: Sequence[Monitored], column: str, words: Callable[[float | None], str]) -> str:
    return listed([f"{each.label} {words(each.last(column))}" for each in found])


def _eigenvalues(found: Sequence[Monitored], unit: str) -> Picture | None:
    found = [each for each in found if "q50" in each.bands and each.bands["q50"].middle[-1] > 0]
    if not found:
        return None

    def fill(axes: Any, bands: dict[str, Band]) -> None:
        for low, high, alpha in (("q0", "q100", 0.12), ("q5", "q95", 0.2), ("q25", "q75", 0.3)):
            if low in bands and high in bands and bands[low].x == bands[high].x:
                bottom = [value if value > 0 else float("nan") for value in bands[low].middle]
                axes.fill_between(bands[low].x, bottom, bands[high].middle, color=LIGHT["blue"], alpha=alpha, lw=0)
        paint(axes, bands["q50"], LIGHT["ink"], filled=False)

    keys = [
        _line("ink", "median"),
        *(_patch(alpha, text) for alpha, text in ((0.5, "middle half"), (0.3, "5 to 95 %"), (0.15, "all"))),
    ]
    svg = _figure("eigenvalues", found, unit, "eigenvalue of the covariance", fill, keys, log=True)
    caption = (
        f"The median eigenvalue ends {_ends(found, 'q50', power)}. The "
        "height of the shaded region is the condition number in powers of ten: a region that opens towards the bottom "
        "is a covariance on its way to singular. Quantiles of the eigenvalues, median over the images of a batch and "
        "over the seeds."
    )
    alt = "Quantiles of the eigenvalues over training; last median " + _each(found, "q50", power)
    return Picture("eigenvalues", alt, caption, svg)


def _condition(found: Sequence[Monitored], unit: str) -> Picture | None:
    found = [each for each in found if "condition" in each.bands and each.bands["condition"].low[0] > 0]
    if not found:
        return None

    def fill(axes: Any, bands: dict[str, Band]) -> None:
        paint(axes, bands["condition"], LIGHT["blue"])
        paint(axes, bands.get("condition_before_norm"), LIGHT["gold"], (0, (3, 2)))

    before = any("condition_before_norm" in each.bands for each in found)
    keys = [_line("blue", "at the head")]
    keys += [_line("gold", "before batch norm and ReLU", (0, (3, 2)))] if before else []
    svg = _figure("condition", found, unit, "condition number", fill, keys, log=True)
    peak = max(found, key=lambda each: max(each.bands["condition"].high))
    narrow, wide = (power(CONDITION_LIMITS[precision]) for precision in ("float32", "float64"))
    caption = (
        f"It ends {_ends(found, 'condition', power)}; the highest value on the way is "
        f"{power(max(peak.bands['condition'].high))} ({peak.label}). Read it against the precision of the head: from "
        f"about {narrow} on float32 leaves an error of 0.1 % or more in the gradient of a root, "
        f"float64 from {wide} on. Largest over smallest eigenvalue that is not null, median over "
        "the images; line: median of the seeds, band: lowest to highest."
    )
    alt = "Condition number of the covariance over training; at the end " + _each(found, "condition", power)
    return Picture("condition", alt, caption, svg)


def _rank(found: Sequence[Monitored], unit: str) -> Picture | None:
    found = [each for each in found if "effective_rank" in each.bands]
    if not found:
        return None

    def fill(axes: Any, bands: dict[str, Band]) -> None:
        paint(axes, bands["effective_rank"], LIGHT["blue"])
        paint(axes, bands.get("rank"), LIGHT["green"], (0, (5, 1.5)), filled=False)
        paint(axes, bands.get("samples"), LIGHT["red"], (0, (1, 1.5)), filled=False)
        paint(axes, bands.get("channels"), LIGHT["mute"], (0, (3, 2)), filled=False)

    keys = [
        _line("blue", "effective rank"),
        _line("green", "rank", (0, (5, 1.5))),
        _line("red", "samples", (0, (1, 1.5))),
        _line("mute", "channels", (0, (3, 2))),
    ]
    svg = _figure("rank", found, unit, "rank of the covariance", fill, keys, log=False)
    few = [each for each in found if (each.last("samples") or 0) < (each.last("channels") or 0)]
    see = f"The effective rank ends {_ends(found, 'effective_rank', significant)}"
    channels = {each.last("channels") for each in found}
    see += f" of {significant(channels.pop())} channels" if len(channels) == 1 else ""
    if few:
        see += (
            f". {significant(few[0].last('samples'))} samples cannot fill {significant(few[0].last('channels'))} "
            "channels: the covariance is singular whatever the network does"
        )
    caption = (
        f"{see}. A line that falls means that the features use fewer and fewer directions; the rank itself can be no "
        "higher than the samples less one. Effective rank: the exponential of the entropy of the eigenvalues, median "
        "over the images; line: median of the seeds, band: lowest to highest."
    )
    alt = "Effective rank of the covariance over training; at the end " + _each(found, "effective_rank", significant)
    return Picture("rank", alt, caption, svg)


def _share(found: Sequence[Monitored], unit: str) -> Picture | None:
    found = [each for each in found if "rule_share" in each.bands]
    if not found:
        return None

    def fill(axes: Any, bands: dict[str, Band]) -> None:
        scaled = Band(bands["rule_share"].x, *([100 * v for v in part] for part in bands["rule_share"][1:]))
        paint(axes, scaled, LIGHT["blue"])
        axes.axhline(100 * SHARE_LIMIT, color=LIGHT["red"], lw=0.8, ls=(0, (1, 1.5)))

    keys = [_line("blue", "changed by the rule"), _line("red", "10 %", (0, (1, 1.5)))]
    svg = _figure("share", found, unit, "share of the gradient, %", fill, keys, log=False)
    above = [each.label for each in found if max(each.bands["rule_share"].middle) > SHARE_LIMIT]
    see = f"{listed(above)} pass" if above else "No variant passes"
    see += "es" if len(above) == 1 else ""
    caption = (
        f"{see} the line of 10 %, from which on a rule is no longer a detail of the arithmetic but trains another way. "
        "Share of the gradient at the head's input by which the rule differs from the exact one; 0 is the exact "
        "gradient. Line: median of the seeds, band: lowest to highest."
    )
    alt = "Share of the gradient that the rule changes; at the end " + _each(
        found, "rule_share", lambda value: f"{significant(100 * (value or 0))} %"
    )
    return Picture("share", alt, caption, svg)
