"""What the engine asks of the source of its batches."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

Batch = tuple[Tensor, Tensor]


class Loader(Protocol):
    """Batches whose order is a function of the epoch (`gcp.data.Loader`)."""

    def __len__(self) -> int:
        """Batches per epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over an epoch's batches, images and labels, from batch `start`."""
        ...
