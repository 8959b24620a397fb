"""Small text files written whole or not at all."""

import json
import os
from pathlib import Path


def write_text(path: str | Path, text: str) -> None:
    """Replace the file in one step: a reader, or a run after a kill, sees the old text or the new."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: str | Path, value: object) -> None:
    """Replace the file by `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")
