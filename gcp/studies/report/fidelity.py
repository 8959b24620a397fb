"""Error of each backward's gradient against condition number, gap and rank deficit, from fidelity.csv."""

import math
from collections.abc import Sequence

from gcp.drawing.figure import draw
from gcp.studies.fidelity.figures import CEILING, beyond, sweep
from gcp.studies.fidelity.measure import Row, natural
from gcp.studies.fidelity.spectra import AXES
from gcp.studies.report.answer import NOTHING, listed, power, significant, whole
from gcp.studies.report.render import Block, Picture, Table
from gcp.studies.report.results import StudyResults, TableRow, middle, number, numbers

WORDS = ("source", "head", "form", "precision", "side")
NUMBERS = (
    *("condition", "gap", "rank_deficit", "samples", "channels", "norm_ratio"),
    *("error", "error_low", "error_high", "cosine", "cosine_low", "cosine_high"),
)
DEFICIT = (
    "Beyond zero the covariance is singular: a backward that leaves null eigenvalues out does not feel it, one that "
    "divides by what rounding makes of them does."
)
SEE = {  # what to look for in the figure of a sweep
    "condition": "A line that rises with slope one loses a digit for each factor of ten; a flat one far above the "
    "others is another gradient, on purpose or because iterations were stopped.",
    "gap": "To the right eigenvalues nearly coincide: there a quotient by their difference explodes, and a closed form "
    "does not.",
    "samples": DEFICIT,
    "zero_channels": DEFICIT,
}


def fidelity(study: StudyResults) -> list[Block]:
    """A figure for each sweep, a table for each condition number, and one for each source of features."""
    rows = [row for row in map(_row, study.fidelity) if _natural(row)]
    pictures = [picture for source in SEE if (picture := _picture(rows, source))]
    tables = [_by_condition(rows), _by_source(rows)]
    return [*pictures, *(table for table in tables if table.rows)]


def _row(record: TableRow) -> Row:
    """A row of the file with numbers for their text, NaN where there is none."""
    row: Row = {key: record.get(key, "") for key in WORDS} | {key: _float(record.get(key, "")) for key in NUMBERS}
    return row | {"head": row["head"] or record.get("rule", "")}


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _natural(row: Row) -> bool:
    """`natural` of a row; one without a side counts as natural."""
    return not row["side"] or math.isnan(row["samples"] + row["channels"]) or natural(row)


def _swept(rows: Sequence[Row], source: str) -> list[Row]:
    """Rows of a sweep at its largest width."""
    own = [row for row in rows if row["source"] == source and math.isfinite(row[AXES[source][0]])]
    widest = max(numbers(own, "channels"), default=None)
    return [row for row in own if widest is None or row["channels"] == widest]


def _picture(rows: Sequence[Row], source: str) -> Picture | None:
    rows = _swept(rows, source)
    column, label = AXES[source]
    if len({row[column] for row in rows}) < 2 or not numbers(rows, "error"):
        return None
    heads = list(dict.fromkeys(row["head"] for row in rows))
    worst = {head: max(numbers((row for row in rows if row["head"] == head), "error"), default=None) for head in heads}
    alt = f"Relative error of the gradient by {label}, a panel for each of {len(heads)} backwards; highest "
    alt += listed([f"{head} {power(error)}" for head, error in worst.items()])
    name = f"fidelity-{source.replace('_', '-')}"
    return Picture(name, alt, _caption(rows, source), draw(name, *sweep(rows, source)))


def _of(rows: Sequence[Row], *line: str) -> list[Row]:
    return [row for row in rows if (row["head"], row["form"], row["precision"]) == line]


def _called(line: tuple[str, str, str]) -> str:
    return " ".join(filter(None, line))


def _caption(rows: Sequence[Row], source: str) -> str:
    worst = {line: max(errors) for line in _lines(rows) if (errors := numbers(_of(rows, *line), "error"))}
    good, bad = min(worst, key=worst.__getitem__), max(worst, key=worst.__getitem__)
    text = f"Over this range the error stays at or below {power(worst[good])} for {_called(good)} and reaches "
    text += f"{power(worst[bad])} for {_called(bad)}."
    if off := sum(map(beyond, rows)):
        text += (
            f" {whole(off)} of {whole(len(rows))} errors are above {power(CEILING)} or not finite: the crosses on top."
        )
    channels = whole(middle(rows, "channels"))
    bands = ", bands from quartile to quartile" if numbers(rows, "error_low") else ""
    return (
        f"{text} {SEE[source]} Medians of |G - G_exact| / |G_exact| over several maps of {channels} channels, on the "
        f"side that the head takes by itself{bands}."
    )


def _lines(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Head, form and precision of the lines of a table, those of a head together."""
    heads = list(dict.fromkeys(row["head"] for row in rows))
    lines = dict.fromkeys((row["head"], row["form"], row["precision"]) for row in rows)
    return sorted(lines, key=lambda line: (heads.index(line[0]), line[1]))


def _by_condition(rows: Sequence[Row]) -> Table:
    """The sweep over the condition number in figures."""
    rows = _swept(rows, "condition")
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


def _by_source(rows: Sequence[Row]) -> Table:
    """Features that are not from a sweep, such as those of a trained network."""
    lines = [
        [
            *(row["source"], row["head"], row["form"], row["precision"]),
            *(_error(row), _cosine(number(row, "cosine")), significant(number(row, "norm_ratio"))),
            *(power(number(row, "condition")), power(number(row, "gap")), whole(number(row, "rank_deficit"))),
        ]
        for row in rows
        if row["source"] not in SEE
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


def _error(row: Row) -> str:
    return "inf" if row["error"] == math.inf else power(number(row, "error"))
