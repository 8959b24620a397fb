"""Small panels side by side, whose axes are shared."""

from collections.abc import Sequence
from typing import Any

from gcp.drawing.labels import shortened

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
