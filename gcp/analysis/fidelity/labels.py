"""Names at the ends of lines, to the right of a panel, where they cover nothing."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple


class End(NamedTuple):
    """The last point of a line, its name and its colour."""

    x: float
    y: float
    name: str
    colour: str


def name_lines(axes: Any, ends: Sequence[End], step: float, letters: float) -> None:
    """Write the names beside a panel with a logarithmic y axis, in the order of the last values, none on another.

    Args:
        axes: with its final limits.
        ends: of the lines.
        step: least distance between two names, as a fraction of the height of the panel.
        letters: their size in points.
    """
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    ends = sorted(ends, key=lambda end: end.y)
    places = spread([(math.log10(end.y) - low) / (high - low) for end in ends], step)
    for end, place in zip(ends, places, strict=True):
        line = {"arrowstyle": "-", "color": end.colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            end.name,
            xy=(end.x, end.y),
            xytext=(1.04, place),
            textcoords="axes fraction",
            fontsize=letters,
            va="center",
            annotation_clip=False,
            arrowprops={**line, "relpos": (0, 0.5)},
        )


def spread(heights: Sequence[float], step: float) -> list[float]:
    """Ascending heights moved apart to at least `step`, by as little as it takes; the highest is at most 1."""
    groups: list[tuple[float, int]] = []  # mean of the wanted heights, and how many
    for height in heights:
        groups.append((height, 1))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < step * (groups[-1][1] + groups[-2][1]) / 2:
            (second, m), (first, n) = groups.pop(), groups.pop()
            groups.append(((first * n + second * m) / (n + m), n + m))
    places = [centre + step * (i - (count - 1) / 2) for centre, count in groups for i in range(count)]
    for i in range(len(places)):  # from the top down: what stands above 1 pushes those below it
        place = len(places) - 1 - i
        places[place] = min(places[place], 1 - step * i)
    return places
