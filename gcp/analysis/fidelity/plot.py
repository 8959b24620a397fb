"""Errors against condition number, gap and rank deficit, and on features that were captured.

A row of panels for each kind of backward, a column for each precision. Lines are medians, bands quartiles; names stand
at the right end of their lines. What has no finite value is marked in a strip at the top.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gcp.analysis.fidelity.labels import End, name_lines
from gcp.analysis.fidelity.measure import Row, shown
from gcp.analysis.fidelity.methods import BACKWARDS, BRANCH, Method
from gcp.analysis.fidelity.panels import LEAST, LETTERS, decades, drawn, panels, style
from gcp.analysis.fidelity.sources import draw_sources
from gcp.analysis.fidelity.spectra import SWEEPS
from gcp.analysis.fidelity.table import AXES
from gcp.analysis.picture import save

FAMILIES = {
    "rules, closed form": lambda row: row["form"] == "folded" or row["head"] == BRANCH,
    "rules, published form": lambda row: row["form"] == "published",
    "iterations": lambda row: row["form"] in (*BACKWARDS, "") and row["head"] != BRANCH,
}
VALUES = {  # what is drawn: its name, from a row, and what is said of one that has no finite value
    "error": ("relative error of the gradient", lambda row, end: row[f"error{end}"], "overflow"),
    "cosine": (
        "1 - cosine to the exact gradient",
        lambda row, end: 1 - row[f"cosine{dict(_low='_high', _high='_low').get(end, '')}"],
        "no direction",
    ),
}
PANEL = (3.7, 2.4)  # inches of its frame, its margins beside it: names stand on the right
LEFT, RIGHT = 0.65, 1.75
STRIP = 0.2  # of the panel below: the strip of what has no finite value, its title above its marks


def draw(rows: Sequence[Row], folder: Path | str) -> list[Path]:
    """Write the figures that the rows allow, each as SVG and PNG, and return their paths."""
    chosen, folder = shown(rows), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for source in AXES:
        of_source = [row for row in chosen if row["source"] == source]
        for channels in sorted({row["channels"] for row in of_source}):
            own = [row for row in of_source if row["channels"] == channels]
            if len({row[AXES[source][0]] for row in own}) > 1:
                for value in VALUES:
                    stem = f"fidelity_{source}_{channels}" + ("" if value == "error" else f"_{value}")
                    paths += _write(_sweep(own, source, value), folder / stem)
    others = [row for row in chosen if row["source"] not in SWEEPS]
    if others:
        paths += _write(draw_sources(others), folder / "fidelity_features")
    return paths


def _write(figure: Any, stem: Path) -> list[Path]:
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("svg", "png")]
    for path in paths:
        save(figure, path)
    return paths


def _sweep(rows: list[Row], source: str, value: str) -> Any:
    column, title = AXES[source]
    families = {name: [row for row in rows if holds(row)] for name, holds in FAMILIES.items()}
    families = {name: own for name, own in families.items() if own}
    precisions = sorted({row["precision"] for row in rows})
    figure, grid = panels(len(families), len(precisions), PANEL, LEFT, RIGHT)
    for line, (name, own) in zip(grid, families.items(), strict=True):
        top = _ceiling(own, value)
        for axes, precision in zip(line, precisions, strict=True):
            part = [row for row in own if row["precision"] == precision]
            _axes(axes, source, top, VALUES[value][2] if _gaps(own, value) else "")
            _lines(axes, part, column, value, top)
            axes.set_title(f"{name}, {precision}", fontsize=9, loc="left")
        line[0].set_ylabel(VALUES[value][0], fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel(title, fontsize=8)
    first = rows[0]
    figure.suptitle(
        f"d = {first['channels']}; medians and quartiles of {first['draws']} draws, exact gradient in "
        f"{first['oracle']}",
        fontsize=9,
    )
    return figure


def _gaps(rows: Sequence[Row], value: str) -> bool:
    return any(not math.isfinite(VALUES[value][1](row, "")) for row in rows)


def _ceiling(rows: Sequence[Row], value: str) -> float:
    """A power of ten above every finite value, at least 10."""
    values = (VALUES[value][1](row, end) for row in rows for end in ("_low", "", "_high"))
    known = [number for number in values if math.isfinite(number) and number > 0]
    return 10.0 ** max(1, math.ceil(math.log10(max(known, default=1.0))))


def _axes(axes: Any, source: str, top: float, missing: str) -> None:
    axes.set_yscale("log")
    decades(axes.yaxis)
    span = math.log10(top / LEAST)
    axes.set_ylim(LEAST / 3, top * 10 ** (STRIP * span) if missing else 3 * top)
    if missing:
        axes.axhspan(top, top * 10 ** (STRIP * span), color="#eeeeee", zorder=0)
        axes.text(0.01, 0.985, missing, transform=axes.transAxes, fontsize=LETTERS, va="top", color="#555555")
    if source in ("condition", "gap"):
        axes.set_xscale("log")
        decades(axes.xaxis)
    if source == "gap" and not axes.xaxis_inverted():
        axes.invert_xaxis()  # harder to the right
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, labelleft=True, labelbottom=True)


def _lines(axes: Any, rows: list[Row], column: str, value: str, top: float) -> None:
    number: Callable[[Row, str], float] = VALUES[value][1]
    ends = []
    span = math.log10(top / LEAST)
    names = list(dict.fromkeys((row["head"], row["form"]) for row in rows))
    for place, name in enumerate(names):
        own = sorted((row for row in rows if (row["head"], row["form"]) == name), key=lambda row: row[column])
        if column == "gap":
            own.reverse()
        x = [row[column] for row in own]
        low, middle, high = ([drawn(number(row, end)) for row in own] for end in ("_low", "", "_high"))
        look = style(name)
        axes.plot(x, middle, linewidth=1.3, markersize=3.2, **look)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
        lost = [row[column] for row, y in zip(own, middle, strict=True) if math.isnan(y)]
        level = top * 10 ** (STRIP * span * (0.1 + 0.55 * place / len(names)))
        axes.plot(lost, [level] * len(lost), markersize=4, **{**look, "linestyle": ""})
        text = str(Method(*name)).replace(" published", "")  # the title of the panel says it
        ends.append(End(x[-1], level if math.isnan(middle[-1]) else middle[-1], text, look["color"]))
    name_lines(axes, ends, 1.25 * LETTERS / 72 / PANEL[1], LETTERS)
