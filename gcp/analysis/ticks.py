"""Whole numbers at the ticks of an axis."""

from typing import Any


def whole_numbers(axes: Any, side: str, log: bool) -> None:
    """Format the ticks of the axis `side` (x or y) of matplotlib's `axes` as 12, 500, 12k, 1.5M.

    `log`: on a logarithmic scale, at round numbers, as many as there is room for. Call it when the data is drawn.
    """
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axis = getattr(axes, f"{side}axis")
    if log:
        axes.set(**{f"{side}scale": "log"})
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 5, 7)))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(EngFormatter(sep=""))
