"""What the engine asks of the source of its batches."""

from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor

from gcp.data.rank_slice import RankSlice

Batch = tuple[Tensor, Tensor]


class Loader(Protocol):
    """Batches whose order is a function of the epoch (`gcp.data.Loader`)."""

    @property
    def rank_slice(self) -> RankSlice:
        """What this process has of every batch."""
        ...

    def __len__(self) -> int:
        """Batches per epoch."""
        ...

    def size(self, batch: int) -> int:
        """Images of a batch in all processes together."""
        ...

    @property
    def normalize(self) -> Callable[[Tensor], Tensor]:
        """From a batch as it is read, uint8 or in [0, 1], to the float32 input of a model, on any device."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over an epoch's batches, images and labels, from batch `start`."""
        ...
