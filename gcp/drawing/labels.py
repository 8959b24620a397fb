"""What is written in a figure: numbers in few digits, names that fit, few ticks, one legend; panels that share axes."""

import math
from collections.abc import Callable, Sequence
from typing import Any


def power(value: float) -> str:
    """`3e-7`, one digit; `0` for zero, `inf` and `nan` as they are."""
    if not math.isfinite(value):
        return str(value)
    digits, _, exponent = f"{value:.0e}".partition("e")
    return f"{digits}e{int(exponent)}" if value else "0"


def shortened(text: str, most: int) -> str:
    """At most so many letters, the middle left out: names differ at their ends."""
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


TITLE = 22  # letters of a panel's title


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
