"""The text of the benchmark: what was measured, and the table of each shape, at most 120 columns wide."""

from textwrap import fill
from typing import Any

from gcp.cli.benchmarks.command import machine
from gcp.studies.fidelity.features import DESCRIPTION

Row = dict[str, Any]
WIDTH = 120
COLUMNS = {
    "fwd ms": 8,
    "bwd ms": 8,
    "f+b ms": 8,
    "bwd/eigh": 9,
    "f+b/eigh": 9,
    "saved MiB": 10,
    "peak MiB": 9,
    "out err": 8,
    "grad err": 9,
}
RATIOS = {"fwd x": 6, "bwd x": 6, "f+b x": 6, "peak x": 7}


def describe(settings: dict[str, Any], environment: dict[str, Any]) -> dict[str, str]:
    """What the figures mean: machine, features, reference, columns, baseline."""
    threads = f"{environment['threads']} thread{'s' if environment['threads'] > 1 else ''}"
    notes = {
        "machine": f"{machine(environment)}, {threads}, torch {environment['packages']['torch']}",
        "features": f"{settings['dtype']}, {DESCRIPTION}",
        "reference": "the exact root (svd_exact) and its gradient on the same features in float64; for heads "
        "with * the head itself in float64. Relative Frobenius norm: an approximation by design "
        "(newton_schulz, svd_topn ...) shows its error",
        "columns": f"fwd, bwd, f+b: medians of {settings['repeats']} rounds in which the heads take turns, "
        f"after {settings['warmup']} of warm-up, in ms; /eigh: in units of one torch.linalg.eigh of the "
        "float64 covariances of the same features, same rounds; saved: kept for the backward, with the "
        "features; peak: allocated by f+b besides the features",
    }
    if settings["baseline"]:
        notes["baseline"] = (
            "columns with x: ours / published form of the same rule on the channel side, same rounds; for "
            "heads without a published form ours / that of svd_original. Below 1 ours needs less"
        )
    return notes


def header(notes: dict[str, str]) -> str:
    """The notes as lines above the tables."""
    margin = " " * 11
    texts = (f"{key:<{len(margin)}}{text}" for key, text in notes.items())
    return "\n".join(fill(text, WIDTH, subsequent_indent=margin) for text in texts)


def table(point: dict[str, Any]) -> str:
    """The measurements at one shape."""
    unit, full = point["unit_ms"], point["full_rank_unit_ms"]
    title = (
        f"batch {point['batch']}, d {point['dim']}, map {point['map']}x{point['map']}: condition number "
        f"{point['condition']:.2g}, one eigh {unit['median']:.1f} ms ({unit['min']:.1f} to {unit['max']:.1f})"
        f", of full rank {full['median']:.1f} ms"
    )
    rows = point["rows"]
    columns = COLUMNS | RATIOS if rows and "ratio" in rows[0] else COLUMNS
    widths = list(columns.values())
    lines = [title, _line("head", list(columns), widths)]
    lines += [_line(_name(row), _cells(row), widths) for row in rows]
    return "\n".join(lines)


def _line(head: str, cells: list[str], widths: list[int]) -> str:
    return f"{head:<17}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _name(row: Row) -> str:
    return row["head"] + ("*" if row["reference"] == row["head"] != "svd_exact" else "")


def _cells(row: Row) -> list[str]:
    times, units, memory = row["time_ms"], row["eigh_units"], row["memory_mib"]
    cells = [_figure(times[phase]["median"]) for phase in ("forward", "backward", "both")]
    cells += [_figure(units[phase]) for phase in ("backward", "both")]
    cells += [_figure(memory[key]) for key in ("saved", "peak")]
    cells += [_error(row["error"][key]) for key in ("output", "gradient")]
    if "ratio" in row:
        cells += [f"{row['ratio'][key]:.2f}" for key in ("forward", "backward", "both", "peak")]
    return cells


def _figure(value: float) -> str:
    """About three significant digits, never more than three decimals."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _error(value: float | None) -> str:
    return "not fin." if value is None else f"{value:.1e}"
