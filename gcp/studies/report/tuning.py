"""What each variant was tuned to: the budget, a table of what every setting gave on validation, warnings at edges."""

from collections.abc import Mapping
from typing import Any

from gcp.studies.report.answer import NOTHING, percent
from gcp.studies.report.render import Block, Bullets, Table, Text
from gcp.studies.report.results import StudyResults, TableRow, distinct, number, read
from gcp.studies.tune import LOG, budget, edges


def tuning(study: StudyResults) -> list[Block | None]:
    """Empty where nothing was tuned."""
    rows = [row for row in read(study.folder / LOG) if row.get("variant")]
    if not study.tuned or not rows:
        return []
    seeds = len(distinct(rows, "seed"))
    told = budget(study.tuned, seeds)
    warnings = _warnings(study)
    return [Text(f"{told[0].upper()}{told[1:]}."), Bullets(warnings) if warnings else None, _table(study, rows)]


def _warnings(study: StudyResults) -> list[str]:
    chosen = study.about.get("chosen")
    every: Mapping[str, Any] = chosen if isinstance(chosen, Mapping) else {}
    return [f"{label}: {edge}." for label, values in every.items() for edge in edges(study.tuned, values)]


def _table(study: StudyResults, rows: list[TableRow]) -> Table:
    """A row for each setting of each variant; what was chosen stands out."""
    keys = list(study.tuned)
    lines, marked = [], set()
    for place, (label, *values) in enumerate(distinct(rows, "variant", *keys)):
        own = [row for row in rows if [row["variant"], *(row.get(key, "") for key in keys)] == [label, *values]]
        scores = [number(row, "val_top1") for row in own]
        known = [score for score in scores if score is not None]
        average = sum(known) / len(known) if known and len(known) == len(scores) else None
        failed = sum(row.get("state") == "failed" for row in own)
        chosen = own[0].get("chosen") == "1"
        marked |= {place} if chosen else set()
        text = f"{failed} failed" if failed else percent(average)
        lines.append([label, *values, text if own else NOTHING, "chosen" if chosen else ""])
    return Table(
        f"Validation accuracy of the final weights for every setting that was tried, mean over its seeds. {LOG} has "
        "every run.",
        ["variant", *keys, "validation, %", ""],
        lines,
        heads=1,
        words=frozenset({len(keys) + 2}),
        marked=frozenset(marked),
    )
