"""Panels of the figures, and how a method looks in them."""

import math
from typing import Any

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
LEAST = 1e-17  # what is below is drawn here
DPI = 110
BELOW, ABOVE, TITLE = 0.5, 0.25, 0.35  # inches: margins of a panel, and the title of the figure
LETTERS = 7.5


def panels(
    rows: int, columns: int, panel: tuple[float, float], left: float, right: float, above: float = ABOVE
) -> tuple[Any, Any]:
    """A figure and its panels, (rows, columns) of a size in inches, with margins to the left, to the right and above.
    Placed by hand: a layout engine takes seconds over names beside panels.
    """
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


def decades(axis: Any) -> None:
    """Ticks of a logarithmic axis at powers of ten alone."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(numticks=9))
    axis.set_minor_locator(NullLocator())


def style(name: tuple[str, str]) -> dict[str, Any]:
    """Colour, marker and line of a head and its form."""
    head, form = name
    place = list(COLOURS).index(head) if head in COLOURS else 0
    return {
        "color": COLOURS.get(head, "#777777"),
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": "--" if form == "iterations" else "-",
    }


def drawn(value: float) -> float:
    """What is drawn: NaN (nothing) for a value that is not finite, LEAST for one that is too small."""
    return max(value, LEAST) if math.isfinite(value) else math.nan
