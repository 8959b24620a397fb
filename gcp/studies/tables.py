"""The tables of a study: `cells.csv`, a row for each run; `table.csv` and `table.md`, a row for each variant."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from gcp.engine.files import write_text
from gcp.studies.cells import Cell
from gcp.studies.grid import Variant, references, shown
from gcp.studies.markdown import markdown
from gcp.studies.record import DONE, FAILED, Record, read
from gcp.studies.statistics import Paired, compare_all, compare_paired, mean_and_deviation, verdict
from gcp.studies.study import Study

Row = dict[str, Any]


def write_tables(folder: Path, study: Study, cells: Sequence[Cell]) -> list[Row]:
    """Write the three from what the cells have come to, and return the rows of the variants."""
    records = [read(cell) for cell in cells]
    rows = variant_rows(study, records)
    write_text(folder / "cells.csv", _csv([cell_row(study, record) for record in records]))
    write_text(folder / "table.csv", _csv(rows))
    write_text(folder / "table.md", markdown(study, rows, records))
    return rows


def cell_row(study: Study, record: Record) -> Row:
    """A run. Accuracies in percent, memory in MiB, time in seconds."""
    cell = record.cell
    return {
        "id": cell.id,
        "variant": cell.variant.label,
        **_values(study, cell.variant),
        "seed": cell.seed,
        "state": record.state,
        "message": "; ".join(line.strip() for line in record.message.splitlines()),
        "test_top1": record.score(),
        "test_top1_best": record.score("best"),
        "val_top1": record.validation,
        "test_loss": record.score(key="loss"),
        "seconds_per_step": record.cost("seconds_per_step"),
        "images_per_second": record.cost("images_per_second"),
        "peak_memory_mib": record.cost("peak_memory_mib"),
        "nonfinite": int(record.nonfinite),
        "parameters": record.cost("parameters"),
        "epochs": record.score(key="epoch"),
    }


def variant_rows(study: Study, records: Sequence[Record]) -> list[Row]:
    """Every variant with its statistics; the differences are to the reference, in pairs of one seed."""
    kept: dict[str, list[Record]] = {}
    for record in records:
        kept.setdefault(record.cell.variant.label, []).append(record)
    against = references(study, [runs[0].cell.variant for runs in kept.values()])
    pairs = {label: reference for label, reference in against.items() if label != reference}
    found = compare_all([_paired(kept[label], kept[reference]) for label, reference in pairs.items()])
    compared = dict(zip(pairs, found, strict=True))
    return [_row(study, label, runs, against.get(label), compared.get(label)) for label, runs in kept.items()]


def _paired(runs: Sequence[Record], others: Sequence[Record]) -> Paired:
    """Over the seeds that both have finished."""
    ours, theirs = (
        {run.cell.seed: score for run in each if (score := run.score()) is not None} for each in (runs, others)
    )
    seeds = [seed for seed in theirs if seed in ours]
    return compare_paired([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])


def _row(study: Study, label: str, runs: Sequence[Record], reference: str | None, found: Paired | None) -> Row:
    done = [run for run in runs if run.state == DONE]
    mean, deviation = mean_and_deviation(_known(done, Record.score))
    best, _ = mean_and_deviation(_known(done, lambda run: run.score("best")))
    return {
        "variant": label,
        **_values(study, runs[0].cell.variant),
        "n": len(done),
        "failed": sum(run.state == FAILED for run in runs),
        "mean": mean,
        "std": deviation,
        "best_mean": best,
        "difference": found.difference if found else None,
        "low": found.low if found else None,
        "high": found.high if found else None,
        "p": found.p if found else None,
        "p_holm": found.p_holm if found else None,
        "verdict": _verdict(reference, found),
        "seconds_per_step": _middle(_known(done, lambda run: run.cost("seconds_per_step"))),
        "peak_memory_mib": max(_known(done, lambda run: run.cost("peak_memory_mib")), default=None),
        "published": study.published.get(label, {}).get("value"),
    }


def _verdict(reference: str | None, found: Paired | None) -> str:
    if reference is None:
        return "nothing to be compared with"
    return verdict(found, reference) if found else "reference"


def _known(runs: Sequence[Record], value: Any) -> list[float]:
    return [found for found in map(value, runs) if found is not None]


def _middle(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _values(study: Study, variant: Variant) -> dict[str, str]:
    return {key: shown(variant.values[key]) for key in study.grid}


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _text(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _text(value: Any) -> Any:
    """Six digits of a number; nothing for None."""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value
