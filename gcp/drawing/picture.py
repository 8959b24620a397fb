"""Pictures written whole or not at all."""

import os
from pathlib import Path
from typing import Any


def save(figure: Any, path: str | Path) -> None:
    """Write a matplotlib figure as an SVG where the path ends in .svg, and as a PNG of exactly its size elsewhere. The
    same figure gives the same bytes.
    """
    from matplotlib import rc_context

    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    kind = {"format": "svg", "metadata": {"Date": None}} if path.suffix == ".svg" else {"format": "png"}
    with rc_context({"svg.hashsalt": "gcp"}):
        figure.savefig(temporary, **kind)
    os.replace(temporary, path)
