"""Figures as small SVG text: letters stay letters, the same input gives the same bytes, colours can follow the page."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from gcp.analysis.report.palette import COLOURS, LIGHT
from gcp.analysis.report.wording import power, shortened

WIDTH = 6.2  # inches: 446 units, letters of 7 pixels on a phone
TITLE = 22  # letters of a panel's title
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a label with two dollar signs is a label
    "font.size": 8.5,
    "font.family": ["DejaVu Sans"],
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "figure.labelsize": 8.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.edgecolor": LIGHT["mute"],
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
    "figure.facecolor": LIGHT["paper"],
    "axes.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), LIGHT["ink"]),
}


def draw(name: str, height: float, paint: Callable[[Any], None]) -> str:
    """SVG of a figure of WIDTH x height inches that `paint(figure)` fills, the same bytes for the same input."""
    import matplotlib.style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    text = io.StringIO()
    with matplotlib.style.context(["default", {**STYLE, "svg.hashsalt": name}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's font shows it, not ours
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        figure.savefig(text, format="svg", metadata={"Date": None})
    return _slim(text.getvalue())


def _slim(svg: str) -> str:
    """Without metadata, with names only where they are used, and coordinates to a tenth of a point."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = svg.replace("font-family: 'DejaVu Sans'; ", "")
    svg = svg.replace("<svg ", """<svg font-family="'DejaVu Sans', Verdana, sans-serif" """, 1)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(r' (?:d|x|y|transform)="[^"]*"', _short, svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    while "<g>\n</g>" in svg or "<g/>" in svg:
        svg = svg.replace("<g>\n</g>\n", "").replace("<g/>\n", "")
    return svg


def _short(found: re.Match) -> str:
    """An attribute with rounded numbers, and in a path without the letter of lines after lines."""
    text = re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), found[0])
    return re.sub(r"\s*\n(?:L )?", " ", text) if "C" not in text and "Q" not in text else text


def standalone(svg: str, alt: str) -> str:
    """The figure as a file: white paper, its description inside."""
    return '<?xml version="1.0" encoding="utf-8"?>\n' + _described(svg, alt, "")


def inline(svg: str, alt: str, name: str) -> str:
    """The figure inside a page, whose colours it takes."""
    for colour, (light, _) in COLOURS.items():
        svg = svg.replace(light, f"var(--{colour})")
    svg = (
        re.sub(r' (?:xmlns(?::xlink)?|version|width|height)="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    )
    return _described(svg.replace("xlink:href", "href"), alt, name)


def _described(svg: str, alt: str, name: str) -> str:
    end = svg.index(">")
    key = f"alt-{name}" if name else "alt"
    return f'{svg[:end]} role="img" aria-labelledby="{key}"><title id="{key}">{escape(alt)}</title>{svg[end + 1 :]}'


def panels(figure: Any, titles: Sequence[str], columns: int = 3) -> list[Any]:
    """One small panel for each title, axes shared; only the outer ones carry numbers."""
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for place, axes in enumerate(grid):
        axes.set_visible(place < len(titles))
        axes.tick_params(length=0)
        axes.grid(axis="y")
        if place + columns >= len(titles):  # the lowest of its column, also above an empty place
            axes.tick_params(labelbottom=True)
    for axes, title in zip(grid, titles, strict=False):
        lines = (shortened(part, TITLE) for part in title.split(", ", 1))
        axes.set_title("\n".join(lines), loc="left", pad=3)
    return list(grid[: len(titles)])


def panels_height(titles: Sequence[str], columns: int = 3) -> float:
    """Inches that `panels` need, with room for labels and legend."""
    each = 1.37 if any(", " in title for title in titles) else 1.25
    return 0.75 + each * -(-len(titles) // min(columns, len(titles)))


def log_axis(axis: Any, label: Callable[[float], str] = power) -> None:
    """Few powers of ten on a logarithmic axis, written as in the text."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_major_locator(LogLocator(numticks=5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def whole_numbers(axis: Any) -> None:
    """Few ticks, at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))


def legend(figure: Any, handles: Sequence[Any], columns: int = 4) -> None:
    """One legend for all panels, above them."""
    figure.legend(handles=list(handles), loc="outside upper left", ncols=columns, borderaxespad=0.2, handlelength=1.6)


def thinned(length: int, panels: int) -> list[int]:
    """Places of a long series that are drawn in one of so many panels, evenly spaced, the last one included."""
    most = min(40, max(16, 400 // panels))  # keeps the figure below 60 kB
    step = -(-length // most)
    return sorted({*range(length - 1, -1, -step)})
