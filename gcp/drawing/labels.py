"""What is written in a figure: names that fit, few numbers along an axis, one legend."""

from collections.abc import Callable, Sequence
from typing import Any

from gcp.drawing.digits import power


def shortened(text: str, most: int) -> str:
    """At most so many letters, the middle left out: the ends are what tells names apart."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def log_axis(axis: Any, label: Callable[[float], str] = power, most: int = 5) -> None:
    """At most so many powers of ten on a logarithmic axis, written as in the text."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_major_locator(LogLocator(numticks=most))
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def whole_numbers(axis: Any) -> None:
    """Few ticks, at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))


def whole_counts(axes: Any, side: str, log: bool) -> None:
    """Numbers such as 12, 500, 12k, 1.5M at the ticks of the axis `side` (x or y) of `axes`.

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


def legend(figure: Any, handles: Sequence[Any], columns: int = 4) -> None:
    """One legend for all panels, above them."""
    figure.legend(handles=list(handles), loc="outside upper left", ncols=columns, borderaxespad=0.2, handlelength=1.6)
