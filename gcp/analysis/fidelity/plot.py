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
from gcp.analysis.fidelity.spectra import SWEEPS
from gcp.analysis.fidelity.table import AXES

COLOURS = {  # apart also for colour-blind readers (Paul Tol's muted and vibrant sets)
    "svd_exact": "#000000",
    "svd_original": "#332288",
    "svd_pade": "#88CCEE",
    "svd_taylor": "#44AA99",
    "svd_pi": "#117733",
    "svd_newton": "#999933",
    "svd_trunc": "#DDAA33",
    "svd_topn": "#CC6677",
    "seb": "#882255",
    "newton_schulz": "#AA4499",
    "polar_express": "#0077BB",
    "mpa_lyapunov": "#EE7733",
    "mtp_lyapunov": "#009988",
}
MARKERS = "osD^vPX<>*phd"
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
LEAST = 1e-17  # what is below is drawn here
DPI = 110
PANEL = (3.7, 2.4)  # inches of its frame, its margins beside it: names stand on the right
LEFT, RIGHT, BELOW, ABOVE, TITLE = 0.65, 1.75, 0.5, 0.25, 0.35
LETTERS = 7.5
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
                    paths += _save(_sweep(own, source, value), folder / stem)
    others = [row for row in chosen if row["source"] not in SWEEPS]
    if others:
        paths += _save(_sources(others), folder / "fidelity_features")
    return paths


def _save(figure: Any, stem: Path) -> list[Path]:
    from matplotlib import rc_context

    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("svg", "png")]
    for path in paths:
        temporary = path.with_name(f".{path.name}.tmp")
        with rc_context({"svg.hashsalt": "gcp"}):  # with the date left out, the same figure is the same file
            same = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(temporary, format=path.suffix[1:], metadata=same)
        temporary.replace(path)
    return paths


def _figure(
    rows: int, columns: int, panel: tuple[float, float], left: float, right: float, above: float = ABOVE
) -> tuple[Any, Any]:
    """Panels of a size in inches. Placed by hand: a layout engine takes seconds over names beside panels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = (left + panel[0] + right) * columns, (BELOW + panel[1] + above) * rows + TITLE
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    places = {
        "left": left / width,
        "right": 1 - right / width,
        "bottom": BELOW / height,
        "top": 1 - (above + TITLE) / height,
        "wspace": (left + right) / panel[0],
        "hspace": (BELOW + above) / panel[1],
    }
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=True, sharey="row", gridspec_kw=places)


def _sweep(rows: list[Row], source: str, value: str) -> Any:
    column, title = AXES[source]
    families = {name: [row for row in rows if holds(row)] for name, holds in FAMILIES.items()}
    families = {name: own for name, own in families.items() if own}
    precisions = sorted({row["precision"] for row in rows})
    figure, grid = _figure(len(families), len(precisions), PANEL, LEFT, RIGHT)
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
    drawn = (VALUES[value][1](row, end) for row in rows for end in ("_low", "", "_high"))
    known = [number for number in drawn if math.isfinite(number) and number > 0]
    return 10.0 ** max(1, math.ceil(math.log10(max(known, default=1.0))))


def _decades(axis: Any) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(numticks=9))
    axis.set_minor_locator(NullLocator())


def _axes(axes: Any, source: str, top: float, missing: str) -> None:
    axes.set_yscale("log")
    _decades(axes.yaxis)
    span = math.log10(top / LEAST)
    axes.set_ylim(LEAST / 3, top * 10 ** (STRIP * span) if missing else 3 * top)
    if missing:
        axes.axhspan(top, top * 10 ** (STRIP * span), color="#eeeeee", zorder=0)
        axes.text(0.01, 0.985, missing, transform=axes.transAxes, fontsize=LETTERS, va="top", color="#555555")
    if source in ("condition", "gap"):
        axes.set_xscale("log")
        _decades(axes.xaxis)
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
        low, middle, high = ([_drawn(number(row, end)) for row in own] for end in ("_low", "", "_high"))
        style = _style(name)
        axes.plot(x, middle, linewidth=1.3, markersize=3.2, **style)
        axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        lost = [row[column] for row, y in zip(own, middle, strict=True) if math.isnan(y)]
        level = top * 10 ** (STRIP * span * (0.1 + 0.55 * place / len(names)))
        axes.plot(lost, [level] * len(lost), markersize=4, **{**style, "linestyle": ""})
        text = str(Method(*name)).replace(" published", "")  # the title of the panel says it
        ends.append(End(x[-1], level if math.isnan(middle[-1]) else middle[-1], text, style["color"]))
    name_lines(axes, ends, 1.25 * LETTERS / 72 / PANEL[1], LETTERS)


def _style(name: tuple[str, str]) -> dict[str, Any]:
    head, form = name
    place = list(COLOURS).index(head) if head in COLOURS else 0
    return {
        "color": COLOURS.get(head, "#777777"),
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": "--" if form == "iterations" else "-",
    }


def _drawn(value: float) -> float:
    """What is drawn: NaN (nothing) for a value that is not finite, LEAST for one that is too small."""
    return max(value, LEAST) if math.isfinite(value) else math.nan


def _sources(rows: list[Row]) -> Any:
    """A panel for each source: a line for each method, a mark for each precision."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    names = list(dict.fromkeys((row["head"], row["form"]) for row in rows))[::-1]
    columns = min(2, len(sources))
    lines = math.ceil(len(sources) / columns)
    figure, grid = _figure(lines, columns, (3.7, 0.19 * len(names) + 0.3), 1.65, 0.1, above=0.45)
    for axes in grid.flat[len(sources) :]:
        axes.remove()
    known = [row["error"] for row in rows if math.isfinite(row["error"])]
    top = 10.0 ** max(1, math.ceil(math.log10(max(known, default=1.0)))) * 10
    for axes, source in zip(grid.flat, sources, strict=False):
        own = [row for row in rows if row["source"] == source]
        for colour, marker, precision, shift in (("#CC6677", "o", "float32", 0.17), ("#332288", "s", "float64", -0.17)):
            part = [row for row in own if row["precision"] == precision]
            y = [names.index((row["head"], row["form"])) + shift for row in part]
            x = [top if math.isinf(row["error"]) else _drawn(row["error"]) for row in part]
            low, high = ([_drawn(row[f"error_{end}"]) for row in part] for end in ("low", "high"))
            axes.hlines(y, low, high, color=colour, linewidth=1)
            axes.plot(x, y, linestyle="", marker=marker, markersize=4, color=colour, label=precision)
        axes.set_xscale("log")
        _decades(axes.xaxis)
        axes.set_xlim(LEAST, top * 2)
        axes.set_yticks(range(len(names)), [str(Method(*name)) for name in names], fontsize=8)
        axes.tick_params(labelsize=8, labelleft=axes in grid[:, 0], labelbottom=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if any(math.isinf(row["error"]) for row in own):
            axes.text(top, len(names) - 0.4, VALUES["error"][2], fontsize=LETTERS, ha="center", color="#555555")
        first = own[0]
        axes.set_title(
            f"{source}\n{first['samples']} samples, {first['channels']} channels, condition {first['condition']:.1e}",
            fontsize=8,
            loc="left",
        )
        axes.set_xlabel("relative error of the gradient", fontsize=8)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="upper right", ncols=2, frameon=False, fontsize=8)
    return figure
