"""Error of each backward's gradient against condition number, gap and rank deficit, from fidelity.csv."""

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from gcp.analysis.fidelity.measure import natural
from gcp.analysis.report.blocks import Block, Picture, Table
from gcp.analysis.report.drawing import draw, legend, log_axis, panels, panels_height
from gcp.analysis.report.palette import LIGHT, SERIES
from gcp.analysis.report.records import Record, distinct, middle, number, numbers
from gcp.analysis.report.study import Study
from gcp.analysis.report.wording import NOTHING, listed, power, significant, whole

FLOOR, CEILING = 1e-17, 1e3  # errors below the one and above the other are drawn there
DASHES = ("-", (0, (3, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))


class Sweep(NamedTuple):
    """Rows of one `source`: the column that varies, its axis, and what to look for."""

    source: str
    column: str
    label: str
    log: bool
    see: str


DEFICIT = (
    "Beyond zero the covariance is singular: a backward that leaves null eigenvalues out does not feel it, one that "
    "divides by what rounding makes of them does."
)
SWEEPS = (
    Sweep(
        *("condition", "condition", "condition number", True),
        "A line that rises with slope one loses a digit for each factor of ten; a flat one far above the others is "
        "another gradient, on purpose or because iterations were stopped.",
    ),
    Sweep(
        *("gap", "gap", "smallest relative gap between eigenvalues", True),
        "To the right eigenvalues nearly coincide: there a quotient by their difference explodes, and a closed form "
        "does not.",
    ),
    Sweep("samples", "rank_deficit", "null eigenvalues, from too few samples", False, DEFICIT),
    Sweep("zero_channels", "rank_deficit", "null eigenvalues, from zero channels", False, DEFICIT),
)


def fidelity(study: Study) -> list[Block]:
    """A figure for each sweep, a table for each condition number, and one for each source of features."""
    rows = [row for row in study.fidelity if _natural(row)]
    pictures = [picture for sweep in SWEEPS if (picture := _picture(rows, sweep))]
    tables = [_by_condition(rows), _by_source(rows)]
    return [*pictures, *(table for table in tables if table.rows)]


def _natural(row: Record) -> bool:
    """`natural` of a row of the file; one that does not tell its side is taken."""
    samples, channels = number(row, "samples"), number(row, "channels")
    if not row.get("side") or samples is None or channels is None:
        return True
    return natural({"form": "", **row, "samples": samples, "channels": channels})


def rule_of(record: Record) -> str:
    """The rule or head that a row is about."""
    return record.get("head") or record.get("rule") or ""


def _swept(rows: Sequence[Record], sweep: Sweep) -> list[Record]:
    """Rows of a sweep at its largest width."""
    own = [row for row in rows if row.get("source") == sweep.source and number(row, sweep.column) is not None]
    widest = max(numbers(own, "channels"), default=None)
    return [row for row in own if widest is None or number(row, "channels") == widest]


def _picture(rows: Sequence[Record], sweep: Sweep) -> Picture | None:
    rows = _swept(rows, sweep)
    if len(set(numbers(rows, sweep.column))) < 2 or not numbers(rows, "error"):
        return None
    rules = list(dict.fromkeys(rule_of(row) for row in rows))
    precisions = [value for (value,) in distinct(rows, "precision")]
    forms = [value for (value,) in distinct(rows, "form") if value]

    def fill(figure: Any) -> None:
        grid = panels(figure, rules)
        for axes, rule in zip(grid, rules, strict=True):
            for form, precision in distinct((row for row in rows if rule_of(row) == rule), "form", "precision"):
                own = _of(rows, rule, form, precision)
                _line(
                    axes,
                    own,
                    sweep,
                    SERIES[precisions.index(precision) % 6],
                    DASHES[forms.index(form) % 4 if form else 0],
                )
        if sweep.log:
            grid[0].set_xscale("log")
            log_axis(grid[0].xaxis)
        if sweep.source == "gap":
            grid[0].invert_xaxis()  # harder to the right, as in the other figures
        grid[0].set_yscale("log")
        grid[0].set_ylim(FLOOR / 2, CEILING * 5)
        log_axis(grid[0].yaxis)
        figure.supxlabel(sweep.label)
        figure.supylabel("relative error of the gradient")
        legend(figure, _keys(precisions, forms))

    worst = {rule: max(numbers((row for row in rows if rule_of(row) == rule), "error"), default=None) for rule in rules}
    alt = f"Relative error of the gradient by {sweep.label}, a panel for each of {len(rules)} backwards; highest "
    alt += listed([f"{rule} {power(error)}" for rule, error in worst.items()])
    name = f"fidelity-{sweep.source.replace('_', '-')}"
    return Picture(name, alt, _caption(rows, sweep), draw(name, panels_height(rules), fill))


def _of(rows: Sequence[Record], rule: str, form: str, precision: str) -> list[Record]:
    wanted = (rule, form, precision)
    return [row for row in rows if (rule_of(row), row.get("form", ""), row.get("precision", "")) == wanted]


def _line(axes: Any, rows: Sequence[Record], sweep: Sweep, colour: str, ls: Any) -> None:
    """Errors along the sweep, and a cross for each beyond the ceiling."""
    places: dict[float, list[float]] = {}
    for row in rows:
        x, error = number(row, sweep.column), number(row, "error")
        if x is not None and error is not None:
            places.setdefault(x, []).append(error)
    along = sorted(places)
    axes.plot(along, [min(max(median(places[x]), FLOOR), CEILING) for x in along], color=colour, ls=ls)
    broken = numbers(filter(_off, rows), sweep.column)
    axes.plot(broken, [CEILING] * len(broken), ls="", marker="x", markersize=4, color=colour)


def _off(row: Record) -> bool:
    return row.get("error") == "inf" or (number(row, "error") or 0.0) > CEILING


def _called(line: tuple[str, str, str]) -> str:
    return " ".join(filter(None, line))


def _caption(rows: Sequence[Record], sweep: Sweep) -> str:
    worst = {line: max(errors) for line in _lines(rows) if (errors := numbers(_of(rows, *line), "error"))}
    good, bad = min(worst, key=worst.__getitem__), max(worst, key=worst.__getitem__)
    text = f"Over this range the error stays at or below {power(worst[good])} for {_called(good)} and reaches "
    text += f"{power(worst[bad])} for {_called(bad)}."
    if off := sum(map(_off, rows)):
        text += (
            f" {whole(off)} of {whole(len(rows))} errors are above {power(CEILING)} or not finite: the crosses on top."
        )
    channels = whole(middle(rows, "channels"))
    return (
        f"{text} {sweep.see} Medians of |G - G_exact| / |G_exact| over several maps of {channels} channels, on the "
        "side that the head takes by itself."
    )


def _keys(precisions: Sequence[str], forms: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    colours = [Line2D([], [], color=SERIES[i % 6], label=name or "precision") for i, name in enumerate(precisions)]
    dashes = [Line2D([], [], color=LIGHT["mute"], ls=DASHES[i % 4], label=name) for i, name in enumerate(forms)]
    return [*colours, *(dashes if len(dashes) > 1 else [])]


def _lines(rows: Sequence[Record]) -> list[tuple[str, str, str]]:
    """Rule, form and precision of the lines of a table, those of a rule together."""
    rules = list(dict.fromkeys(map(rule_of, rows)))
    lines = dict.fromkeys((rule_of(row), row.get("form", ""), row.get("precision", "")) for row in rows)
    return sorted(lines, key=lambda line: (rules.index(line[0]), line[1]))


def _by_condition(rows: Sequence[Record]) -> Table:
    """The sweep over the condition number in figures."""
    rows = _swept(rows, SWEEPS[0])
    conditions = sorted(set(numbers(rows, "condition")))
    while len(conditions) > 8:
        conditions = conditions[::2]
    lines = []
    for line in _lines(rows):
        errors = {number(row, "condition"): _error(row) for row in _of(rows, *line)}
        lines.append([*line, *(errors.get(condition, NOTHING) for condition in conditions)])
    return Table(
        "Relative error of the gradient by condition number of the covariance, medians: read along a row up to which "
        "condition number a precision is safe.",
        ["backward", "form", "precision", *map(power, conditions)],
        lines,
        heads=3,
    )


def _by_source(rows: Sequence[Record]) -> Table:
    """Features that are not from a sweep, such as those of a trained network."""
    sweeps = {sweep.source for sweep in SWEEPS}
    rows = [row for row in rows if row.get("source", "") not in sweeps]
    lines = [
        [
            *(row.get("source", ""), rule_of(row), row.get("form", ""), row.get("precision", "")),
            *(_error(row), _cosine(number(row, "cosine")), significant(number(row, "norm_ratio"))),
            *(power(number(row, "condition")), power(number(row, "gap")), whole(number(row, "rank_deficit"))),
        ]
        for row in rows
    ]
    return Table(
        "Gradients on features as they are: relative error, cosine with the exact gradient, norm over that of the "
        "exact one (medians), and the spectrum of the features.",
        ["features", "backward", "form", "precision", "error", "cosine", "norm", "condition", "gap", "null"],
        lines,
        heads=4,
    )


def _cosine(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def _error(row: Record) -> str:
    return "inf" if row.get("error") == "inf" else power(number(row, "error"))
