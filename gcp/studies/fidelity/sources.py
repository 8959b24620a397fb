"""The figure of features that are not from a sweep."""

import math
from typing import Any

from gcp.studies.fidelity.measure import Row
from gcp.studies.fidelity.methods import Method
from gcp.studies.fidelity.panels import LEAST, LETTERS, decades, drawn, panels


def draw_sources(rows: list[Row]) -> Any:
    """A panel for each source: a line for each method, a mark for each precision."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    names = list(dict.fromkeys((row["head"], row["form"]) for row in rows))[::-1]
    columns = min(2, len(sources))
    lines = math.ceil(len(sources) / columns)
    figure, grid = panels(lines, columns, (3.7, 0.19 * len(names) + 0.3), 1.65, 0.1, above=0.45)
    for axes in grid.flat[len(sources) :]:
        axes.remove()
    known = [row["error"] for row in rows if math.isfinite(row["error"])]
    top = 10.0 ** max(1, math.ceil(math.log10(max(known, default=1.0)))) * 10
    for axes, source in zip(grid.flat, sources, strict=False):
        own = [row for row in rows if row["source"] == source]
        for colour, marker, precision, shift in (("#CC6677", "o", "float32", 0.17), ("#332288", "s", "float64", -0.17)):
            part = [row for row in own if row["precision"] == precision]
            y = [names.index((row["head"], row["form"])) + shift for row in part]
            x = [top if math.isinf(row["error"]) else drawn(row["error"]) for row in part]
            low, high = ([drawn(row[f"error_{end}"]) for row in part] for end in ("low", "high"))
            axes.hlines(y, low, high, color=colour, linewidth=1)
            axes.plot(x, y, linestyle="", marker=marker, markersize=4, color=colour, label=precision)
        axes.set_xscale("log")
        decades(axes.xaxis)
        axes.set_xlim(LEAST, top * 2)
        axes.set_yticks(range(len(names)), [str(Method(*name)) for name in names], fontsize=8)
        axes.tick_params(labelsize=8, labelleft=axes in grid[:, 0], labelbottom=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if any(math.isinf(row["error"]) for row in own):
            axes.text(top, len(names) - 0.4, "overflow", fontsize=LETTERS, ha="center", color="#555555")
        first = own[0]
        axes.set_title(
            f"{source}\n{first['samples']} samples, {first['channels']} channels, condition {first['condition']:.1e}",
            fontsize=8,
            loc="left",
        )
        axes.set_xlabel("relative error of the gradient", fontsize=8)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="upper right", ncols=2, frameon=False, fontsize=8)
    return figure
