"""The order of a stream, as a function of (seed, epoch).

    shards   in an order by (seed, epoch), dealt in turn to LANES lanes
    lane     reads its shards one after the other; in training its samples go through a buffer
    batch    comes from one lane, the lanes in turn; what is left in the lanes at the end is joined to batches

An epoch that starts in the middle reads over what is before, without decoding it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, count, islice
from typing import NamedTuple

import numpy as np
from torch import Tensor

from gcp.data.seeds import AUGMENT, ORDER, hashed, permutation
from gcp.data.share import WHOLE, Share
from gcp.data.stream import Sample, Shard, StreamSet

LANES = 8

Batch = tuple[Tensor, Tensor]


class Plan(NamedTuple):
    """An epoch: the shards of each lane, the lane of each full batch in order, and the lanes with a rest."""

    shards: list[list[Shard]]
    full: list[int]
    rest: list[int]


class Lanes:
    """What is read in which order: a function of the epoch."""

    def __init__(self, dataset: StreamSet, batch_size: int, train: bool, seed: int, share: Share = WHOLE):
        self.dataset = dataset
        self.share = share
        self.batch_size = batch_size
        self.train = train
        self.seed = seed

    def __len__(self) -> int:
        return min(LANES, len(self.dataset.shards))

    def plan(self, epoch: int) -> Plan:
        """The order of epoch `epoch`; nothing is read."""
        shards = self.dataset.shards
        order = permutation(len(shards), ORDER, self.seed, epoch) if self.train else np.arange(len(shards))
        lanes = [[shards[index] for index in order[lane :: len(self)]] for lane in range(len(self))]
        sizes = [divmod(sum(shard.count for shard in lane), self.batch_size) for lane in lanes]
        rounds = range(max(full for full, _ in sizes))
        return Plan(
            lanes,
            [lane for turn in rounds for lane, (full, _) in enumerate(sizes) if turn < full],
            [lane for lane, (_, rest) in enumerate(sizes) if rest],
        )

    def batches(self, epoch: int, start: int, own: range) -> Iterator[Batch]:
        """What the lanes in `own` give from batch `start` of the epoch on: of each full batch the share of this
        process, in evaluation those batches alone that are its own; then their rests, whole.
        """
        plan = self.plan(epoch)
        read = Counter(plan.full[:start])
        lanes = {lane: self._lane(plan.shards[lane], epoch, lane, read[lane]) for lane in own}
        for number, lane in enumerate(plan.full[start:], start):
            if lane in lanes:
                samples, seeds = next(lanes[lane])
                if self.train:
                    yield self._slice(samples, seeds)
                elif self.share.scores(number):
                    yield self.dataset.batch(samples, seeds)
        for lane in plan.rest:
            if lane in lanes:
                yield self.dataset.batch(*next(lanes[lane]))

    def _slice(self, samples: list[Sample], seeds: np.ndarray | None) -> Batch:
        places = self.share.places(len(samples))
        decoded = places if len(places) else np.zeros(1, dtype=np.int64)  # only an image knows its shape
        part = [samples[place] for place in decoded]
        images, labels = self.dataset.batch(part, None if seeds is None else seeds[decoded])
        return images[: len(places)], labels[: len(places)]

    def _lane(
        self, shards: Sequence[Shard], epoch: int, lane: int, read: int
    ) -> Iterator[tuple[list[Sample], np.ndarray | None]]:
        """Its batches before they are decoded, the last one smaller; the first `read` are passed over."""
        samples: Iterator[Sample] = chain.from_iterable(map(self.dataset.samples, shards))
        if self.train:
            samples = shuffled(samples, self.dataset.buffer, ORDER, self.seed, epoch, lane)
        for number in count():
            part = list(islice(samples, self.batch_size))
            if not part:
                return
            if number >= read:
                places = number * self.batch_size + np.arange(len(part))
                yield part, hashed(AUGMENT, self.seed, epoch, lane, places) if self.train else None


def shuffled(samples: Iterator[Sample], size: int, *keys: int) -> Iterator[Sample]:
    """The samples in a random order by `keys`: each takes the place of one of the `size` that are held back."""
    held = list(islice(samples, size))
    for place, sample in enumerate(samples):
        slot = int(hashed(*keys, place)[0]) % size
        yield held[slot]
        held[slot] = sample
    for index in permutation(len(held), *keys):
        yield held[index]
