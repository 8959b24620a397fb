"""Panels of the figure of features, of sizes in inches."""

import math
from typing import Any

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


def drawn(value: float) -> float:
    """What is drawn: NaN (nothing) for a value that is not finite, LEAST for one that is too small."""
    return max(value, LEAST) if math.isfinite(value) else math.nan
