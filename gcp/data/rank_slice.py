"""The part of the batches of an epoch that one of several processes reads.

    training     of every batch a slice, so that the processes together make the step of one process
    evaluation   every world-th batch as a whole, so that each image is scored among the same others

The batches themselves, their order and their augmentation do not know how many processes there are.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RankSlice:
    """The part of process `rank` of `world`; `neighbour`: the slice begins with the image before it.

    That image is needed to mix the slice as the whole batch would be mixed, each image with the one before (the
    first with the last).
    """

    rank: int = 0
    world: int = 1
    neighbour: bool = False

    @property
    def leading(self) -> bool:
        """Whether a slice has an image before its own."""
        return self.neighbour and self.world > 1

    def places(self, size: int) -> np.ndarray:
        """Places in a batch of `size` that this process reads, int64. Rank 0 is the last to have none."""
        begin, end = (-(-size * rank // self.world) for rank in (self.rank, self.rank + 1))
        places = np.arange(begin, end)
        if self.leading and len(places):
            places = np.concatenate([[(begin - 1) % size], places])
        return places

    def scores(self, batch: int) -> bool:
        """Whether this process evaluates batch number `batch`."""
        return batch % self.world == self.rank


WHOLE = RankSlice()
