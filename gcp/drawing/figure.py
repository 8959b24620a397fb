"""Figures of one width, as SVG and PNG: the same input gives the same bytes, letters stay letters, and a file is
written whole or not at all.
"""

import io
import os
import re
import warnings
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

# Each colour for light and for dark paper. All but that of lines of a grid have a contrast of at least 4.5 to their
# paper (WCAG 2.1, level AA for text).
COLOURS = {
    "paper": ("#ffffff", "#14171b"),
    "ink": ("#1b1f24", "#e6e9ed"),
    "mute": ("#5d6570", "#9aa4b0"),
    "line": ("#d6dade", "#363d46"),
    "blue": ("#2a6099", "#6fb0ee"),
    "green": ("#1e7040", "#5cc486"),
    "red": ("#b0303f", "#f58a97"),
    "gold": ("#856200", "#dcb441"),
    "violet": ("#7a4499", "#c79be6"),
}
LIGHT = {name: pair[0] for name, pair in COLOURS.items()}
SERIES = tuple(LIGHT[name] for name in ("blue", "red", "green", "gold", "violet", "ink"))
# colour and marker by standing, so that neither has to be seen
STANDING = {
    "reference": (LIGHT["ink"], "D"),
    "better": (LIGHT["green"], "^"),
    "equal": (LIGHT["blue"], "d"),
    "undecided": (LIGHT["blue"], "o"),
    "worse": (LIGHT["red"], "v"),
    "untested": (LIGHT["mute"], "s"),
    "failed": (LIGHT["mute"], "x"),
}


def variables(dark: bool) -> str:
    """The colours as CSS variables, `--ink: #1b1f24; ...`."""
    return " ".join(f"--{name}: {pair[dark]};" for name, pair in COLOURS.items())


def save(figure: Any, path: str | Path) -> None:
    """Write a matplotlib figure as SVG or PDF where the path ends so, elsewhere as a PNG of exactly its size. The same
    figure gives the same bytes.
    """
    from matplotlib import rc_context

    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    kind = path.suffix if path.suffix in undated else ".png"
    with rc_context({"svg.hashsalt": "gcp"}):
        figure.savefig(temporary, format=kind[1:], metadata=undated.get(kind))
    os.replace(temporary, path)


WIDTH = 6.2  # inches: 446 units, letters of 7 pixels on a phone
DPI = 200  # of a PNG
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


def draw(name: str, height: float, paint: Callable[[Any], None], png: Path | None = None, width: float = WIDTH) -> str:
    """SVG of a figure of width x height inches that `paint(figure)` fills, the same bytes for the same input.

    Args:
        name: of the figure.
        height: in inches.
        paint: takes an empty figure.
        png: where to write the same figure as a PNG (or PDF) as well.
        width: in inches.
    """
    import matplotlib.style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    text = io.StringIO()
    with matplotlib.style.context(["default", {**STYLE, "svg.hashsalt": name}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's font shows it, not ours
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        figure.savefig(text, format="svg", metadata={"Date": None})
        if png is not None:
            figure.set_layout_engine("none")  # everything has its place: to find it again takes a second
            save(figure, png)
    return slim(text.getvalue())


def write_figure(path: str | Path, height: float, paint: Callable[[Any], None], alt: str) -> None:
    """Write one figure of `draw` as SVG, with its description `alt`, or as PNG or PDF, by the ending of the path."""
    path = Path(path)
    svg = draw(path.stem, height, paint, None if path.suffix == ".svg" else path)
    if path.suffix == ".svg":
        path.write_text(standalone(svg, alt), encoding="utf-8")


def slim(svg: str) -> str:
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
