"""Figures of one width: as SVG the same input gives the same bytes, and letters stay letters."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gcp.drawing.palette import LIGHT
from gcp.drawing.picture import save
from gcp.drawing.svg import slim

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


def draw(name: str, height: float, paint: Callable[[Any], None], png: Path | None = None) -> str:
    """SVG of a figure of WIDTH x height inches that `paint(figure)` fills, the same bytes for the same input.

    Args:
        name: of the figure.
        height: in inches.
        paint: takes an empty figure.
        png: where to write the same figure as a PNG as well.
    """
    import matplotlib.style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    text = io.StringIO()
    with matplotlib.style.context(["default", {**STYLE, "svg.hashsalt": name}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's font shows it, not ours
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        figure.savefig(text, format="svg", metadata={"Date": None})
        if png is not None:
            figure.set_layout_engine("none")  # everything has its place: to find it again takes a second
            save(figure, png)
    return slim(text.getvalue())
