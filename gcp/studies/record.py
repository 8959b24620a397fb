"""What a cell has come to, read from its folder: a result, a failure, or neither yet."""

import json
from dataclasses import dataclass
from typing import Any

from gcp.engine.files import write_json
from gcp.engine.folder import RunFolder
from gcp.studies.cells import Cell

FAILURE = "failure.json"
DONE, FAILED, PENDING = "done", "failed", "pending"


@dataclass(frozen=True)
class Record:
    """State of a cell with what the table says of it.

    `again`: it failed by no fault of its own, a kill from outside, and is run again by the next command.
    """

    cell: Cell
    state: str = PENDING
    message: str = ""
    nonfinite: bool = False
    again: bool = False
    result: dict[str, Any] | None = None

    def score(self, weights: str = "final", key: str = "top1") -> float | None:
        """A score on the test split, of the `final` weights or of the `best` on validation; accuracies in percent."""
        scores: dict[str, Any] = (self.result or {}).get("test", {}).get(weights, {})
        return scores.get(key)

    def cost(self, key: str) -> Any:
        """A figure of `gcp.runs.cost`."""
        return (self.result or {}).get("cost", {}).get(key)

    @property
    def validation(self) -> float | None:
        """Best top-1 accuracy on the validation split, in percent."""
        found = (self.result or {}).get("validation", {}).get("best") or {}
        return found.get("top1")


def read(cell: Cell) -> Record:
    """The record of a cell as it is now."""
    if cell.folder.result.is_file():
        return Record(cell, DONE, result=json.loads(cell.folder.result.read_text()))
    path = cell.folder.path / FAILURE
    return Record(cell, FAILED, **json.loads(path.read_text())) if path.is_file() else Record(cell)


def write_failure(folder: RunFolder, message: str, nonfinite: bool = False, again: bool = False) -> None:
    """Note why a cell has no result."""
    write_json(folder.path / FAILURE, {"message": message, "nonfinite": nonfinite, "again": again})


def forget_failure(folder: RunFolder) -> None:
    """Before a cell is run again."""
    (folder.path / FAILURE).unlink(missing_ok=True)
