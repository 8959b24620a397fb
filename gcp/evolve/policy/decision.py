"""What a policy decides: plain data that an engine can carry out, a log can tell and processes can exchange."""

import math
from dataclasses import dataclass
from typing import NamedTuple


class Decision(NamedTuple):
    """A dimension is to have another width."""

    dimension: str
    before: int
    after: int
    why: str


@dataclass(frozen=True)
class Bounds:
    """How far a width may go: at least `least`, at most `most`, by at most `factor` in one edit, but always by a unit.

    A width that begins outside `least` and `most` may come nearer, and is not forced to. `step`: of the dimension, of
    which a width is a multiple.
    """

    least: int = 8
    most: int | None = None
    factor: float = 1.5

    def lowest(self, before: int, step: int = 1) -> int:
        """The width that any number of edits may reach from `before`."""
        return min(before, -(-self.least // step) * step)

    def shrunk(self, before: int, wanted: int, step: int = 1) -> int:
        """The width nearest to `wanted` < `before` that one edit may reach; `before` where there is none."""
        lowest = min(before - step, math.ceil(before / self.factor))
        return min(before, -(-max(wanted, lowest, self.least) // step) * step)

    def grown(self, before: int, wanted: int, step: int = 1) -> int:
        """The width nearest to `wanted` > `before` that one edit may reach; `before` where there is none."""
        highest = max(before + step, math.floor(before * self.factor))
        return max(before, min(wanted, highest, self.most or highest) // step * step)
