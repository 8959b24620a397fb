"""The tables of the report: results by variant, published numbers, and the runs that have no result."""

from gcp.studies.report.blocks import Table
from gcp.studies.report.records import Record, number
from gcp.studies.report.study import Study
from gcp.studies.report.wording import NOTHING, interval, percent, probability, signed, significant, spread, whole

VERDICTS = {
    "reference": "reference",
    "better": "better",
    "equal": "equal with every seed",
    "undecided": "cannot be told apart",
    "worse": "worse",
    "untested": "not tested",
    "failed": "failed",
}
MESSAGE = 400  # letters of a failed run's message; the rest is in cells.csv


def results(study: Study) -> Table:
    """One row for each variant, columns that hold nothing left out."""
    keys = study.keys if len(study.keys) > 1 else []
    columns: list[tuple[str, list[str]]] = [
        *((key, [row.get(key, "") for row in study.rows]) for key in keys),
        *([] if keys else [("variant", [row["variant"] for row in study.rows])]),
        ("runs", [_runs(row) for row in study.rows]),
        ("accuracy, %", [spread(number(row, "mean"), number(row, "std")) for row in study.rows]),
        ("best on validation, %", [percent(number(row, "best_mean")) for row in study.rows]),
        ("difference, points", [_compared(study, row, signed(number(row, "difference"))) for row in study.rows]),
        (
            "95 % interval",
            [_compared(study, row, interval(number(row, "low"), number(row, "high"))) for row in study.rows],
        ),
        ("p (Holm)", [_compared(study, row, probability(number(row, "p_holm"))) for row in study.rows]),
        ("verdict", [VERDICTS[study.standing(row)] for row in study.rows]),
        ("step, ms", [significant(_milliseconds(row)) for row in study.rows]),
        ("memory, MiB", [whole(number(row, "peak_memory_mib")) for row in study.rows]),
        ("published", [row.get("published") or NOTHING for row in study.rows]),
    ]
    kept = [(name, cells) for name, cells in columns if name in keys or any(cell != NOTHING for cell in cells)]
    names = [name for name, _ in kept]
    marked = frozenset(place for place, row in enumerate(study.rows) if study.is_reference(row))
    return Table(
        _caption(study, names),
        names,
        [list(cells) for cells in zip(*(cells for _, cells in kept), strict=True)],
        heads=max(1, len(keys)),
        words=frozenset({names.index("verdict")}),
        marked=marked,
    )


def _caption(study: Study, names: list[str]) -> str:
    text = "Accuracy: top-1 on the test split with the final weights, mean ± standard deviation over the seeds."
    if "best on validation, %" in names:
        text += " Best on validation: the same with the weights that were best on held-out images."
    if "95 % interval" in names:
        text += (
            f" Differences are to {study.rival}, paired by seed; an interval that crosses zero leaves open which "
            "of the two is better. The verdict counts how many questions were asked at once (Holm's correction, 5 %)."
        )
    if "step, ms" in names:
        text += " A step: forward, backward and update, median; memory: the highest of the runs."
    return text


def _runs(row: Record) -> str:
    done, failed = number(row, "n"), number(row, "failed")
    return f"{whole(done)} ({whole(failed)} failed)" if failed else whole(done)


def _compared(study: Study, row: Record, text: str) -> str:
    return NOTHING if study.is_reference(row) else text


def _milliseconds(row: Record) -> float | None:
    seconds = number(row, "seconds_per_step")
    return None if seconds is None else 1e3 * seconds


def published(study: Study) -> Table | None:
    """Published numbers beside ours, with what they are for."""
    if not study.published:
        return None
    rows = []
    for label, entry in study.published.items():
        row = study.row(label)
        ours = spread(number(row, "mean"), number(row, "std")) if row else NOTHING
        rows.append(
            [label, str(entry.get("value", "")), ours, str(entry.get("what", "")), str(entry.get("source", ""))]
        )
    return Table(
        "Published numbers beside ours. They compare only where data, resolution, schedule and crop are the same.",
        ["variant", "published", "ours, accuracy %", "what the published number is", "source"],
        rows,
        words=frozenset({3, 4}),
    )


def failures(study: Study) -> Table | None:
    """Runs that ended with a message."""
    rows = [
        [cell.get("id", ""), cell.get("variant", ""), cell.get("seed", ""), _short(cell.get("message", ""))]
        for cell in study.in_state("failed")
    ]
    if not rows:
        return None
    return Table(
        "Runs that failed, with their messages.", ["run", "variant", "seed", "message"], rows, words=frozenset({1, 3})
    )


def _short(message: str) -> str:
    text = " ".join(message.split()) or "no message"
    return text if len(text) <= MESSAGE else f"{text[:MESSAGE]} … (whole in cells.csv)"
