"""The tables of a study: `cells.csv`, a row for each run; `table.csv` and `table.md`, a row for each variant."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from gcp.engine.folder import write_text
from gcp.errors import counted
from gcp.studies.cells import DONE, FAILED, PENDING, Cell, Outcome, read
from gcp.studies.grid import Study, Variant, references, shown
from gcp.studies.report.render import code, plain
from gcp.studies.statistics import (
    Paired,
    at_chance,
    compare_all,
    compare_images,
    compare_paired,
    mean_and_deviation,
    verdict,
)
from gcp.studies.tune import part

Row = dict[str, Any]


def write_tables(folder: Path, study: Study, cells: Sequence[Cell]) -> list[Row]:
    """Write the three from what the cells have come to, and return the rows of the variants."""
    records = [read(cell) for cell in cells]
    rows = variant_rows(study, records)
    write_text(folder / "cells.csv", _csv([cell_row(study, record) for record in records]))
    write_text(folder / "table.csv", _csv(rows))
    write_text(folder / "table.md", markdown(study, rows, records))
    return rows


def cell_row(study: Study, record: Outcome) -> Row:
    """A run. Accuracies in percent, memory in MiB, time in seconds."""
    cell, images = record.cell, record.images
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
        "test_images": len(images.right) if images else None,
        "chance": images.chance if images else None,
        "test_loss": record.score(key="loss"),
        "seconds_per_step": record.cost("seconds_per_step"),
        "images_per_second": record.cost("images_per_second"),
        "peak_memory_mib": record.cost("peak_memory_mib"),
        "nonfinite": int(record.nonfinite),
        "parameters": record.cost("parameters"),
        "epochs": record.score(key="epoch"),
    }


def variant_rows(study: Study, records: Sequence[Outcome]) -> list[Row]:
    """Every variant with its statistics; the differences are to the reference, in pairs of one seed."""
    kept: dict[str, list[Outcome]] = {}
    for record in records:
        kept.setdefault(record.cell.variant.label, []).append(record)
    against = references(study, [runs[0].cell.variant for runs in kept.values()])
    pairs = {label: reference for label, reference in against.items() if label != reference}
    found = compare_all([_paired(kept[label], kept[reference]) for label, reference in pairs.items()])
    compared = dict(zip(pairs, found, strict=True))
    return [_row(study, label, runs, against.get(label), compared.get(label)) for label, runs in kept.items()]


def _paired(runs: Sequence[Outcome], others: Sequence[Outcome]) -> Paired:
    """Over the seeds that both have finished, and over the test images where all of these runs have recorded theirs."""
    ours, theirs = ({run.cell.seed: run for run in each if run.score() is not None} for each in (runs, others))
    seeds = [seed for seed in theirs if seed in ours]
    images = [[found.right for seed in seeds if (found := each[seed].images)] for each in (ours, theirs)]
    every = [right for those in images for right in those]
    if seeds and len(every) == 2 * len(seeds) and len({len(right) for right in every}) == 1:
        return compare_images(np.stack(images[0]), np.stack(images[1]))
    return compare_paired(
        [ours[seed].score() or 0.0 for seed in seeds], [theirs[seed].score() or 0.0 for seed in seeds]
    )


def _row(study: Study, label: str, runs: Sequence[Outcome], reference: str | None, found: Paired | None) -> Row:
    done = [run for run in runs if run.state == DONE]
    mean, deviation = mean_and_deviation(_known(done, Outcome.score))
    best, _ = mean_and_deviation(_known(done, lambda run: run.score("best")))
    held_out, _ = mean_and_deviation(_known(done, lambda run: run.validation))
    images = next((run.images for run in done if run.images), None)
    chance, count = (images.chance, len(images.right)) if images else (None, None)
    return {
        "variant": label,
        **_values(study, runs[0].cell.variant),
        **({"tuned": part(study.chosen.get(label, {}))} if study.tune else {}),
        "n": len(done),
        "failed": sum(run.state == FAILED for run in runs),
        "mean": mean,
        "std": deviation,
        "best_mean": best,
        "val_mean": held_out,
        "test_images": count,
        "chance": chance,
        "at_chance": None if mean is None or images is None else int(at_chance(mean, images.chance, len(images.right))),
        "difference": found.difference if found else None,
        "low": found.low if found else None,
        "high": found.high if found else None,
        "p": found.p if found else None,
        "p_holm": found.p_holm if found else None,
        "interval": None if not found or found.low is None else "seeds" if found.images is None else "seeds and images",
        "verdict": _verdict(reference, found),
        "seconds_per_step": _middle(_known(done, lambda run: run.cost("seconds_per_step"))),
        "peak_memory_mib": max(_known(done, lambda run: run.cost("peak_memory_mib")), default=None),
        "published": study.published.get(label, {}).get("value"),
    }


def _verdict(reference: str | None, found: Paired | None) -> str:
    if reference is None:
        return "nothing to be compared with"
    return verdict(found, reference) if found else "reference"


def _known(runs: Sequence[Outcome], value: Any) -> list[float]:
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
    """Six digits of a number; nothing for None; text that a spreadsheet would compute begins with an apostrophe."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def markdown(study: Study, rows: Sequence[Row], records: Sequence[Outcome]) -> str:
    """Title, table, verdicts, what failed, and how to read it.

    While runs are open the table ranks by validation and shows no score of the test split: whoever looks at those on
    the way, and stops or adds runs by what they say, chooses on the test images.
    """
    done = sum(record.state == DONE for record in records)
    failed = [record for record in records if record.state == FAILED]
    left = sum(record.state == PENDING for record in records)
    state = f"{done} of {counted(len(records), 'run')} finished, {len(failed)} failed, {left} to be run."
    parts = [
        f"# {plain(study.title or study.name)}",
        code(study.command) if study.command else "",
        f"Seeds {', '.join(map(str, study.seeds))}; {state} {MEANING_OPEN if left else _meaning(rows)}",
        "\n".join(_open_table(rows) if left else _table(rows)),
        ""
        if left
        else "\n".join(f"- **{plain(row['variant'])}**: {plain(row['verdict'])}{_chance(row)}." for row in rows),
        "\n".join(f"- {plain(note)}" for note in [*_notes(study, records), *study.notes]),
        "\n".join(f"- failed: {record.cell.id}: {plain(_first_line(record.message))}" for record in failed),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


MEANING_OPEN = (
    "Best accuracy on the validation split in percent, mean over the runs that are finished. Scores of the test split "
    "are shown when no run is left."
)


def _meaning(rows: Sequence[Row]) -> str:
    kinds = {row["interval"] for row in rows} - {None}
    over = f" over {' or '.join(sorted(kinds))}" if kinds else ""
    return (
        "Test accuracy in percent, mean and standard deviation over seeds, of the final weights and of those best on "
        f"validation. Differences are in points, paired by seed, with their 95 % interval{over}; p is corrected by "
        "Holm over the variants."
    )


def _chance(row: Row) -> str:
    return f"; not above chance, {row['chance']:.2f} %: it has not learnt" if row["at_chance"] else ""


def _open_table(rows: Sequence[Row]) -> list[str]:
    ranked = sorted(rows, key=lambda row: -(row["val_mean"] or 0.0))
    cells = [[row["variant"], _runs(row), _number(row["val_mean"], ".2f"), *_cost(row)] for row in ranked]
    return _lines(["variant", "n", "validation", "ms per step", "peak MiB"], cells)


def _table(rows: Sequence[Row]) -> list[str]:
    published = any(row["published"] is not None for row in rows)
    heads = ["variant", "n", "final", "best", "difference", "p", "ms per step", "peak MiB"]
    cells = [
        [
            row["variant"],
            _runs(row),
            _number(row["mean"], ".2f") + (f" ± {row['std']:.2f}" if row["std"] is not None else ""),
            _number(row["best_mean"], ".2f"),
            _number(row["difference"], "+.2f") + _interval(row),
            _number(row["p_holm"], ".2g"),
            *_cost(row),
            *([_number(row["published"], ".2f")] if published else []),
        ]
        for row in rows
    ]
    return _lines([*heads, *(["published"] if published else [])], cells)


def _lines(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, *([plain(cell) if cell else "" for cell in row] for row in cells)]
    texts = [f"| {' | '.join(line)} |" for line in lines]
    return [texts[0], f"|{'---|' * len(heads)}", *texts[1:]]


def _runs(row: Row) -> str:
    return f"{row['n']}" + (f" ({row['failed']} failed)" if row["failed"] else "")


def _cost(row: Row) -> list[str]:
    return [_number(row["seconds_per_step"], ".1f", 1000), _number(row["peak_memory_mib"], ".0f")]


def _number(value: float | None, form: str, factor: float = 1) -> str:
    return "" if value is None else format(factor * value, form)


def _interval(row: dict[str, Any]) -> str:
    return "" if row["low"] is None else f" ({row['low']:+.2f} to {row['high']:+.2f})"


def _notes(study: Study, records: Sequence[Outcome]) -> list[str]:
    memories = sorted({record.cost("memory") for record in records if record.cost("memory")})
    notes = ["Time is the median over epochs without evaluation."]
    notes += [f"Memory is the peak, {memory}." for memory in memories]
    if study.jobs > 1 and any("process" in memory for memory in memories):
        notes.append(f"{study.jobs} runs at once shared the processor: times are not those of an idle machine.")
    sources = dict.fromkeys(
        f"{entry.get('what', 'published')}, {entry.get('source', 'no source given')}"
        for entry in study.published.values()
    )
    return notes + [f"Published: {source}." for source in sources]


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
