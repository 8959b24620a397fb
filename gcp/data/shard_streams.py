"""The order of a stream, as a function of (seed, epoch).

    shards         in an order by (seed, epoch), dealt in turn to STREAMS shard streams
    shard stream   reads its shards one after the other; in training its samples go through a buffer
    batch          comes from one shard stream, each in turn; what is left in them at the end is joined to batches

An epoch that starts in the middle reads over what is before, without decoding it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from typing import NamedTuple

import numpy as np
from torch import Tensor

from gcp.data.rank_slice import WHOLE, RankSlice
from gcp.data.seeds import AUGMENT, ORDER, hashed, permutation
from gcp.data.stream import Sample, Shard, StreamSet

STREAMS = 8

Batch = tuple[Tensor, Tensor]


class EpochPlan(NamedTuple):
    """An epoch: the shards of each stream, the stream of each full batch in order, and the streams with a rest."""

    shards: list[list[Shard]]
    full: list[int]
    rest: list[int]


class ShardStreams:
    """What is read in which order: a function of the epoch."""

    def __init__(
        self, dataset: StreamSet, batch_size: int, train: bool, seed: int, rank_slice: RankSlice = WHOLE
    ):  # fmt: skip
        self.dataset = dataset
        self.rank_slice = rank_slice
        self.batch_size = batch_size
        self.train = train
        self.seed = seed

    def __len__(self) -> int:
        return min(STREAMS, len(self.dataset.shards))

    def plan(self, epoch: int) -> EpochPlan:
        """The order of epoch `epoch`; nothing is read."""
        shards = self.dataset.shards
        order = permutation(len(shards), ORDER, self.seed, epoch) if self.train else np.arange(len(shards))
        streams = [[shards[index] for index in order[stream :: len(self)]] for stream in range(len(self))]
        sizes = [divmod(sum(shard.count for shard in stream), self.batch_size) for stream in streams]
        rounds = range(max(full for full, _ in sizes))
        return EpochPlan(
            streams,
            [stream for turn in rounds for stream, (full, _) in enumerate(sizes) if turn < full],
            [stream for stream, (_, rest) in enumerate(sizes) if rest],
        )

    def batches(self, epoch: int, start: int, own: range) -> Iterator[Batch]:
        """What the streams in `own` give from batch `start` of the epoch on: of each full batch the slice of this
        process, in evaluation those batches alone that are its own; then their rests, whole.
        """
        plan = self.plan(epoch)
        read = Counter(plan.full[:start])
        streams = {number: self._stream(plan.shards[number], epoch, number, read[number]) for number in own}
        for number, stream in enumerate(plan.full[start:], start):
            if stream in streams:
                samples, seeds = next(streams[stream])
                if self.train:
                    yield self._slice(samples, seeds)
                elif self.rank_slice.scores(number):
                    yield self.dataset.batch(samples, seeds)
        for stream in plan.rest:
            if stream in streams:
                yield self.dataset.batch(*next(streams[stream]))

    def _slice(self, samples: list[Sample], seeds: np.ndarray | None) -> Batch:
        places = self.rank_slice.places(len(samples))
        decoded = places if len(places) else np.zeros(1, dtype=np.int64)  # only an image knows its shape
        part = [samples[place] for place in decoded]
        images, labels = self.dataset.batch(part, None if seeds is None else seeds[decoded])
        return images[: len(places)], labels[: len(places)]

    def _stream(
        self, shards: Sequence[Shard], epoch: int, stream: int, read: int
    ) -> Iterator[tuple[list[Sample], np.ndarray | None]]:
        """Its batches before they are decoded, the last one smaller; the first `read` are passed over."""
        samples: Iterator[Sample] = chain.from_iterable(map(self.dataset.samples, shards))
        if self.train:
            samples = shuffled(samples, self.dataset.buffer, ORDER, self.seed, epoch, stream)
        for number in count():
            part = list(islice(samples, self.batch_size))
            if not part:
                return
            if number >= read:
                places = number * self.batch_size + np.arange(len(part))
                yield part, hashed(AUGMENT, self.seed, epoch, stream, places) if self.train else None


def shuffled(samples: Iterator[Sample], size: int, *keys: int) -> Iterator[Sample]:
    """The samples in a random order by `keys`: each takes the place of one of the `size` that are held back."""
    held = list(islice(samples, size))
    for place, sample in enumerate(samples):
        slot = int(hashed(*keys, place)[0]) % size
        yield held[slot]
        held[slot] = sample
    for index in permutation(len(held), *keys):
        yield held[index]
