"""The tables of the study of evolving widths: `cells.csv`, a row for each run, and `table.md`, one for each variant."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from gcp.analysis.evolution_study import draw_evolution_study
from gcp.cli.evolution.cells import Cell
from gcp.engine.files import write_text
from gcp.engine.metrics import write_metrics
from gcp.studies.statistics import compare_paired, mean_and_deviation

HEADS = ("variant", "runs", "test %", "parameters", "seconds", "less fixed", "less scratch")


def write_tables(out: Path, cells: Sequence[Cell], command: str) -> None:
    """Write both from what the runs have come to, and `study.png`."""
    done = [cell for cell in cells if cell.result()]
    table = [cell_row(cell) for cell in done]
    write_metrics(out / "cells.csv", table)
    draw_evolution_study(table, out / "study.png")
    rows = [
        _row([cell for cell in done if cell.variant == variant]) for variant in dict.fromkeys(c.variant for c in done)
    ]
    lines = [f"| {' | '.join(row)} |" for row in (HEADS, *rows)]
    lines.insert(1, f"|{'---|' * len(HEADS)}")
    text = (
        f"# Widths that evolve, on digits\n\n`{command}`\n\n{len(done)} of {len(cells)} runs. Test accuracy of the "
        "final weights, mean and standard deviation over seeds; parameters at the end, and seconds of training with "
        "edits and without evaluation, medians. Differences in points, paired by seed, with their 95 % interval.\n\n"
    )
    write_text(out / "table.md", text + "\n".join(lines) + "\n")


def cell_row(cell: Cell) -> dict[str, Any]:
    """A run that is finished. Accuracies in percent, time in seconds."""
    result = cell.result()
    assert result is not None
    return {
        "id": cell.folder.name,
        "variant": cell.variant,
        "start": cell.start,
        "optimizer": cell.optimizer,
        "head": cell.head,
        "widths": cell.arm,
        "seed": cell.seed,
        "test_top1": result["test"]["final"]["top1"],
        "val_top1": result["validation"]["final"]["top1"],
        "parameters": result["cost"]["parameters"],
        "seconds": result["seconds"],
        "seconds_per_step": result["cost"]["seconds_per_step"],
        "final_widths": " ".join(str(width) for width in result.get("widths", {}).values()),
    }


def _row(cells: Sequence[Cell]) -> tuple[str, ...]:
    rows = [cell_row(cell) for cell in cells]
    mean, deviation = mean_and_deviation([row["test_top1"] for row in rows])
    arm = cells[0].arm
    return (
        cells[0].variant,
        str(len(cells)),
        f"{mean:.2f}" + (f" ± {deviation:.2f}" if deviation is not None else ""),
        f"{median(row['parameters'] for row in rows):,.0f}",
        f"{median(row['seconds'] for row in rows):.0f}",
        _difference(cells, "fixed") if arm != "fixed" else "",
        _difference(cells, "scratch") if arm == "evolved" else "",
    )


def _difference(cells: Sequence[Cell], arm: str) -> str:
    pairs = [(cell.score(), cell.other(arm).score()) for cell in cells]
    both = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
    found = compare_paired([mine for mine, _ in both], [theirs for _, theirs in both])
    if found.difference is None:
        return ""
    return f"{found.difference:+.2f}" + (f" ({found.low:+.2f} to {found.high:+.2f})" if found.low is not None else "")
