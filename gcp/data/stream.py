"""Labelled images that can only be read in order, from shards of a known length.

There is no random access: nothing is known of a sample before it has been read, not even its label. So a validation
split is held out as whole shards, and few-shot training is not possible.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gcp.data.normalize import Normalizer
from gcp.data.transforms import Transform
from gcp.errors import DataError

# Encoded images that a reader holds back in order to shuffle: about 100 MB of photographs at 100 kB.
BUFFER = 1000


@dataclass(frozen=True)
class Shard:
    """A part that is read from its beginning to its end. `count`: images in it."""

    name: str
    count: int


class Sample(NamedTuple):
    """An image as it is stored, not decoded yet. `name` stands for it in errors."""

    name: str
    image: Any
    label: int


class StreamSet:
    """One split as a stream.

    read: the samples of a shard, in order. decode: a stored image to pixels (C, h, w) uint8. buffer: samples held
    back for shuffling. most_workers: how many processes may read, None for any number.
    """

    in_memory = False
    paths = None

    def __init__(
        self,
        shards: Sequence[Shard],
        read: Callable[[Shard], Iterable[Sample]],
        decode: Callable[[Sample], Tensor],
        classes: int,
        transform: Transform,
        buffer: int = BUFFER,
        most_workers: int | None = None,
    ):
        self.shards = tuple(shards)
        self.classes = classes
        self.transform = transform
        self.buffer = buffer
        self.most_workers = most_workers
        self._read = read
        self._decode = decode

    @property
    def normalize(self) -> Normalizer:
        """That of the transform."""
        return self.transform.normalize

    def __len__(self) -> int:
        return sum(shard.count for shard in self.shards)

    def samples(self, shard: Shard) -> Iterator[Sample]:
        """The samples of a shard. The last one comes when the shard has been read to its end, so that none is
        lost in silence. Raises DataError unless there are `shard.count`, each with a class for a label.
        """
        last, found = None, 0
        for sample in self._read(shard):
            if not 0 <= sample.label < self.classes:
                raise DataError(
                    f"the label of {sample.name} is {sample.label}; allowed: 0 to {self.classes - 1}, by the "
                    f"{self.classes} classes of the data set."
                )
            if found == shard.count:
                raise self._other_length(shard, f"more than {found}")
            if last is not None:
                yield last
            last, found = sample, found + 1
        if last is None or found < shard.count:
            raise self._other_length(shard, str(found))
        yield last

    def batch(self, samples: Sequence[Sample], seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Images (B, C, S, S) and labels (B,) int64, as `ImageSet.read` gives them."""
        labels = torch.tensor([sample.label for sample in samples], dtype=torch.int64)
        return self.transform((self._decode(sample) for sample in samples), seeds), labels

    def subset(self, indices: Sequence[int] | np.ndarray) -> "StreamSet":
        """The same stream restricted to some of its shards."""
        shards = [self.shards[index] for index in indices]
        return StreamSet(shards, self._read, self._decode, self.classes, self.transform, self.buffer, self.most_workers)

    def fingerprint(self) -> str:
        """A hash of the names and lengths of the shards; the images are not read."""
        text = "\n".join(f"{shard.name} {shard.count}" for shard in self.shards)
        return f"{len(self)} images in {len(self.shards)} shards, {sha256(text.encode()).hexdigest()[:16]}"

    def _other_length(self, shard: Shard, found: str) -> DataError:
        return DataError(f"{shard.name} holds {found} images; by the info of the data set it has {shard.count}.")
