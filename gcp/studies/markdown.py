"""The table of a study to read."""

from collections.abc import Sequence
from typing import Any

from gcp.errors import counted
from gcp.studies.record import DONE, FAILED, Record
from gcp.studies.study import Study


def markdown(study: Study, rows: Sequence[dict[str, Any]], records: Sequence[Record]) -> str:
    """Title, table, verdicts, what failed, and how to read it."""
    done = sum(record.state == DONE for record in records)
    failed = [record for record in records if record.state == FAILED]
    left = len(records) - done - len(failed)
    state = f"{done} of {counted(len(records), 'run')} finished, {len(failed)} failed, {left} to be run."
    parts = [
        f"# {study.title or study.name}",
        f"`{study.command}`" if study.command else "",
        f"Seeds {', '.join(map(str, study.seeds))}; {state} Test accuracy in percent, mean and standard deviation over "
        "seeds, of the final weights and of those best on validation. Differences are in points, paired by seed, with "
        "their 95 % interval; p is corrected by Holm over the variants.",
        "\n".join(_table(rows)),
        "\n".join(f"- **{row['variant']}**: {row['verdict']}." for row in rows),
        "\n".join([*_notes(study, records), *(f"- {note}" for note in study.notes)]),
        "\n".join(f"- failed: {record.cell.id}: {_first_line(record.message)}" for record in failed),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    published = any(row["published"] is not None for row in rows)
    heads = ["variant", "n", "final", "best", "difference", "p", "ms per step", "peak MiB"]
    heads += ["published"] if published else []
    lines, escaped = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"], r"\|"
    for row in rows:
        cells = [
            row["variant"],
            f"{row['n']}" + (f" ({row['failed']} failed)" if row["failed"] else ""),
            _number(row["mean"], ".2f") + (f" ± {row['std']:.2f}" if row["std"] is not None else ""),
            _number(row["best_mean"], ".2f"),
            _number(row["difference"], "+.2f") + _interval(row),
            _number(row["p_holm"], ".2g"),
            _number(row["seconds_per_step"], ".1f", 1000),
            _number(row["peak_memory_mib"], ".0f"),
        ]
        cells += [_number(row["published"], ".2f")] if published else []
        lines.append(f"| {' | '.join(cell.replace('|', escaped) for cell in cells)} |")
    return lines


def _number(value: float | None, form: str, factor: float = 1) -> str:
    return "" if value is None else format(factor * value, form)


def _interval(row: dict[str, Any]) -> str:
    return "" if row["low"] is None else f" ({row['low']:+.2f} to {row['high']:+.2f})"


def _notes(study: Study, records: Sequence[Record]) -> list[str]:
    memories = sorted({record.cost("memory") for record in records if record.cost("memory")})
    notes = ["- Time is the median over epochs without evaluation."]
    notes += [f"- Memory is the peak, {memory}." for memory in memories]
    if study.jobs > 1 and any("process" in memory for memory in memories):
        notes.append(f"- {study.jobs} runs at once shared the processor: times are not those of an idle machine.")
    sources = dict.fromkeys(
        f"{entry.get('what', 'published')}, {entry.get('source', 'no source given')}"
        for entry in study.published.values()
    )
    return notes + [f"- Published: {source}." for source in sources]


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
