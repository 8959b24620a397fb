"""The figures of a measurement: errors over each sweep, and on features that were captured.

A sweep has a panel for each head, a colour for each precision, a dash for each form. Lines are medians, bands
quartiles. A cross on the upper edge is a value above it, or none that is finite.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gcp.drawing import figure
from gcp.drawing.figure import LIGHT, SERIES, standalone
from gcp.drawing.labels import legend, log_axis, panels, panels_height, power, shortened, whole_numbers
from gcp.engine.folder import write_text
from gcp.studies.fidelity.measure import Row, shown
from gcp.studies.fidelity.methods import ComparedHead
from gcp.studies.fidelity.spectra import AXES, SWEEPS

LABEL = 38  # letters of a source
FLOOR, CEILING = 1e-17, 1e3  # what is below the one or above the other is drawn there
DASHES = ("-", (0, (3, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))
LINE, LEAST = 0.15, 2.8  # inches that a line of text takes, and a figure whose name of the y axis fits below its legend
WIDER = 2  # a band whose ends are closer than this factor is as narrow as its line, which hides it


class Value(NamedTuple):
    """What is drawn of a row: its name, the number at an end ("", "_low", "_high"), and what a cross means."""

    label: str
    at: Callable[[Row, str], float]
    cross: str


def _error(row: Row, end: str) -> float:
    return row.get(f"error{end}", math.nan)


def _angle(row: Row, end: str) -> float:
    """1 - cosine, inf of a gradient without a direction."""
    cosine = row.get("cosine" + {"_low": "_high", "_high": "_low"}.get(end, ""), math.nan)
    return math.inf if end == "" and math.isnan(cosine) else 1 - cosine


VALUES = {
    "error": Value("relative error of the gradient", _error, f"above {power(CEILING)} or not finite"),
    "cosine": Value("1 - cosine to the exact gradient", _angle, "no direction"),
}


def sweep(
    rows: Sequence[Row], source: str, value: Value = VALUES["error"], note: str = ""
) -> tuple[float, Callable[[Any], None]]:
    """The height in inches of the figure, and the function that paints it.

    Args:
        rows: of `measure`, from this source and of one number of channels, one for each method and point; quartiles may
            be missing.
        source: a key of AXES.
        value: one of VALUES.
        note: a second line below the axis.
    """
    column, label = AXES[source]
    heads = _distinct(rows, "head")
    colours = {name: SERIES[i % len(SERIES)] for i, name in enumerate(_distinct(rows, "precision"))}
    dashes = {name: DASHES[i % len(DASHES)] for i, name in enumerate(filter(None, _distinct(rows, "form")))}

    def paint(figure: Any) -> None:
        grid = panels(figure, heads)
        for axes, head in zip(grid, heads, strict=True):
            own = sorted((row for row in rows if row["head"] == head), key=lambda row: row[column])
            for form, precision in dict.fromkeys((row["form"], row["precision"]) for row in own):
                line = [row for row in own if (row["form"], row["precision"]) == (form, precision)]
                _line(axes, line, column, value, colours[precision], dashes.get(form, "-"))
        _scales(grid[0], source)
        figure.supxlabel("\n".join(filter(None, (label, note))))
        figure.supylabel(value.label)
        legend(figure, _keys(colours, dashes, value.cross if any(beyond(row, value) for row in rows) else ""))

    return max(LEAST, panels_height(heads)) + (LINE if note else 0), paint


def beyond(row: Row, value: Value = VALUES["error"]) -> bool:
    """Whether a row is drawn as a cross."""
    return value.at(row, "") > CEILING


def _distinct(rows: Sequence[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def _line(axes: Any, rows: Sequence[Row], column: str, value: Value, colour: str, ls: Any) -> None:
    x = [row[column] for row in rows]
    low, middle, high = ([value.at(row, end) for row in rows] for end in ("_low", "", "_high"))
    if any(top > WIDER * bottom for bottom, top in zip(low, high, strict=True)):
        axes.fill_between(x, list(map(_inside, low)), list(map(_inside, high)), color=colour, alpha=0.2, lw=0)
    axes.plot(x, [_inside(y) if math.isfinite(y) else math.nan for y in middle], color=colour, ls=ls)
    crosses = [row[column] for row in rows if beyond(row, value)]
    axes.plot(crosses, [CEILING] * len(crosses), color=colour, ls="", marker="x", markersize=4)


def _inside(y: float) -> float:
    """NaN, which nothing is drawn for, stays."""
    return y if math.isnan(y) else min(max(y, FLOOR), CEILING)


def _scales(axes: Any, source: str) -> None:
    if source in ("condition", "gap"):
        axes.set_xscale("log")
        log_axis(axes.xaxis, most=4)
    else:
        whole_numbers(axes.xaxis)
    if source == "gap":
        axes.invert_xaxis()  # harder to the right
    axes.set_yscale("log")
    axes.set_ylim(FLOOR / 2, CEILING * 5)
    log_axis(axes.yaxis)


def _keys(colours: Mapping[str, str], dashes: Mapping[str, Any], cross: str) -> list[Any]:
    from matplotlib.lines import Line2D

    keys = [Line2D([], [], color=colour, label=name or "precision") for name, colour in colours.items()]
    if len(dashes) > 1:
        keys += [Line2D([], [], color=LIGHT["mute"], ls=ls, label=name) for name, ls in dashes.items()]
    if cross:
        keys.append(Line2D([], [], color=LIGHT["mute"], ls="", marker="x", markersize=4, label=cross))
    return keys


def sources(rows: Sequence[Row]) -> tuple[float, Callable[[Any], None]]:
    """The figure of features that are not from a sweep, as `sweep` gives one: a panel for each source, a line for each
    method, a mark for each precision.
    """
    names = _distinct(rows, "source")
    methods = list(dict.fromkeys((row["head"], row["form"]) for row in rows))
    colours = {name: SERIES[i % len(SERIES)] for i, name in enumerate(_distinct(rows, "precision"))}
    columns = min(2, len(names))
    lines = -(-len(names) // columns)

    def paint(figure: Any) -> None:
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for place, axes in enumerate(grid):
            axes.set_visible(place < len(names))
        for axes, name in zip(grid, names, strict=False):
            own = [row for row in rows if row["source"] == name]
            _marks(axes, own, methods, colours)
            first = own[0]
            axes.set_title(
                f"{shortened(name, LABEL)}\n{first['samples']} samples, {first['channels']} channels\n"
                f"condition number {power(first['condition'])}",
                loc="left",
            )
            axes.tick_params(length=0, labelbottom=True)
        grid[0].set_xscale("log")
        grid[0].set_xlim(FLOOR / 2, CEILING * 5)
        log_axis(grid[0].xaxis, most=4)
        grid[0].set_yticks(range(len(methods)), [str(ComparedHead(*method)) for method in methods])
        grid[0].set_ylim(len(methods) - 0.4, -0.6)
        figure.supxlabel(VALUES["error"].label)
        legend(figure, _keys(colours, {}, VALUES["error"].cross if any(map(beyond, rows)) else ""))

    return 1.0 + lines * (0.75 + 0.19 * len(methods)), paint


def _marks(axes: Any, rows: Sequence[Row], methods: Sequence[tuple[str, str]], colours: Mapping[str, str]) -> None:
    for place, (precision, colour) in enumerate(colours.items()):
        part = [row for row in rows if row["precision"] == precision]
        y = [methods.index((row["head"], row["form"])) + 0.3 * (place - (len(colours) - 1) / 2) for row in part]
        low, middle, high = ([_inside(row[f"error{end}"]) for row in part] for end in ("_low", "", "_high"))
        axes.hlines(y, low, high, color=colour, linewidth=1)
        for marker, crossed in (("o", False), ("x", True)):
            shown_rows = [(x, at) for x, at, row in zip(middle, y, part, strict=True) if beyond(row) == crossed]
            if shown_rows:
                axes.plot(*zip(*shown_rows, strict=True), ls="", marker=marker, markersize=3.5, color=colour)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


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
                    paths += _draw_sweep(own, source, value, folder / stem)
    others = [row for row in chosen if row["source"] not in SWEEPS]
    if others:
        alt = "Relative error of the gradient on features as they are, a panel for each source"
        paths += _write(folder / "fidelity_features", alt, *sources(others))
    return paths


def _draw_sweep(rows: Sequence[Row], source: str, value: str, stem: Path) -> list[Path]:
    first = rows[0]
    note = (
        f"d = {first['channels']}; medians and quartiles of {first['draws']} draws, exact gradient in {first['oracle']}"
    )
    alt = f"{VALUES[value].label} by {AXES[source][1]}, a panel for each head"
    return _write(stem, alt, *sweep(rows, source, VALUES[value], note))


def _write(stem: Path, alt: str, height: float, paint: Callable[[Any], None]) -> list[Path]:
    svg, png = (stem.with_name(f"{stem.name}.{ending}") for ending in ("svg", "png"))
    write_text(svg, standalone(figure.draw(stem.name, height, paint, png), alt))
    return [svg, png]
