"""How far a study is: one line that is refreshed on a terminal, a line for each cell elsewhere."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from gcp.studies.cells import Cell
from gcp.studies.record import DONE, FAILED, PENDING, Record, read


class Progress:
    """Counts, time left, and the best variant so far.

    Args:
        cells: of the whole study.
        jobs: cells at once.
        tabulate: writes the tables and returns the rows of the variants.
    """

    def __init__(self, cells: Sequence[Cell], jobs: int, tabulate: Callable[[], list[dict[str, Any]]]):
        self.jobs, self.tabulate = jobs, tabulate
        self.states = {cell.id: read(cell).state for cell in cells}
        self.running: dict[str, float] = {}
        self.taken: list[float] = []
        self.rows = tabulate()
        self.terminal = sys.stdout.isatty()

    def started(self, cell: Cell) -> None:
        """Of `Watch`."""
        self.states[cell.id] = PENDING
        self.running[cell.id] = time.monotonic()

    def ended(self, cell: Cell) -> None:
        """Of `Watch`."""
        seconds = time.monotonic() - self.running.pop(cell.id)
        record = read(cell)
        self.states[cell.id] = record.state
        if record.state == DONE:
            self.taken.append(seconds)
        self.rows = self.tabulate()
        self.say(f"{_outcome(record):<70} {self.line()}")

    def beat(self) -> None:
        """Of `Watch`."""
        if self.terminal:
            print(f"\r\033[K{self.line()}", end="", flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        print(f"\r\033[K{text}" if self.terminal else text, flush=True)

    def line(self) -> str:
        """`12 of 55 done, 1 failed, 2 running, 34 min left, best svd_pade 99.44`."""
        states = list(self.states.values())
        parts = [f"{states.count(DONE)} of {len(states)} done"]
        parts += [f"{states.count(FAILED)} failed"] if FAILED in states else []
        parts += [f"{len(self.running)} running"] if self.running else []
        parts += [f"{_duration(self._left(states.count(PENDING)))} left"] if self.taken and PENDING in states else []
        found = [row for row in self.rows if row["mean"] is not None]
        if found:
            best = max(found, key=lambda row: row["mean"])
            parts.append(f"best {best['variant']} {best['mean']:.2f}")
        return ", ".join(parts)

    def _left(self, pending: int) -> float:
        """Seconds: what the cells to come take, less what the running ones have done."""
        now = time.monotonic()
        each = sum(self.taken) / len(self.taken)
        done = sum(min(each, now - begun) for begun in self.running.values())
        return (pending * each - done) / min(self.jobs, max(1, pending))


def _outcome(record: Record) -> str:
    if record.state == DONE:
        return f"{record.cell.id}: {record.score():.2f} %"
    first = record.message.partition("\n")[0]
    return f"{record.cell.id}: failed: {first}" if record.state == FAILED else f"{record.cell.id}: stopped"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
