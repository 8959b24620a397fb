"""Pictures written whole or not at all."""

import os
from pathlib import Path
from typing import Any


def save(figure: Any, path: str | Path) -> None:
    """Write a matplotlib figure as a PNG of exactly its size."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="png")
    os.replace(temporary, path)
