"""The shares of several processes put together are the batches of one, for sets by index and for streams."""

import numpy as np
import pytest
import torch

from gcp.data import create_loader
from gcp.data.images import TensorSet
from gcp.data.normalize import Normalize
from gcp.data.rank_slice import WHOLE, RankSlice
from gcp.data.stream import Sample, Shard, StreamSet

WORLDS = (1, 2, 3, 7)


class Seeded:
    """The image beside the seed that augments it: (B, 2, 1, 1)."""

    normalize = Normalize((0.5, 0.5), (0.5, 0.5))

    def __call__(self, images, seeds):
        numbers = torch.stack(list(images)).double().flatten()
        chosen = np.zeros(len(numbers)) if seeds is None else (seeds % 2**32).astype(np.float64)
        return torch.stack([numbers, torch.from_numpy(chosen)], 1)[:, :, None, None]


def tensors(count):
    return TensorSet(torch.arange(count)[:, None], np.arange(count) % 5, Seeded())


def stream(count):
    lengths = [count // 3, count - count // 3 - 4, 4]
    starts = np.cumsum([0, *lengths])
    shards = [Shard(f"{start}", length) for start, length in zip(starts, lengths, strict=False)]

    def numbers(shard):
        first = int(shard.name)
        return (Sample(str(n), n, n % 5) for n in range(first, first + shard.count))

    return StreamSet(shards, numbers, lambda s: torch.tensor(s.image), 5, Seeded())


SETS = pytest.mark.parametrize("images", [tensors(29), stream(29)], ids=["by index", "stream"])


def parts(images, world, train, neighbour=False, start=0, **options):
    """The batches of each rank."""
    found = []
    for rank in range(world):
        rank_slice = RankSlice(rank, world, neighbour)
        loader = create_loader(images, 6, train=train, seed=3, rank_slice=rank_slice, **options)
        found.append(list(loader.epoch(2, start)))
    return found


def same(one, other):
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


@SETS
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("start", [0, 2, 4])
def test_slices_make_the_batch(images, world, start):
    whole = create_loader(images, 6, train=True, seed=3)
    found = parts(images, world, True, start=start)
    wanted = list(whole.epoch(2, start))
    assert [len(ranks) for ranks in found] == [len(wanted)] * world
    for number, (batch, *slices) in enumerate(zip(wanted, *found, strict=True), start):
        together = torch.cat([s[0] for s in slices]), torch.cat([s[1] for s in slices])
        assert same(together, batch) and len(batch[1]) == whole.size(number)


@SETS
@pytest.mark.parametrize("world", WORLDS[1:])
def test_a_slice_comes_with_the_image_before_it(images, world):
    for batch, *slices in zip(*parts(images, 1, True), *parts(images, world, True, neighbour=True), strict=True):
        shifted = batch[0].roll(1, 0)
        for own, _ in slices:
            if len(own):
                place = int(torch.where((batch[0] == own[1]).all(1))[0][0])
                assert torch.equal(own[0], shifted[place])
        assert sum(max(0, len(labels) - 1) for _, labels in slices) == len(batch[1])


@SETS
@pytest.mark.parametrize("world, workers", [(1, 0), (2, 2), (3, 0), (7, 0)])
def test_evaluation_deals_out_whole_batches(images, world, workers):
    wanted = list(create_loader(images, 6, train=False).epoch(0))
    found = parts(images, world, False, workers=workers)
    for rank, batches in enumerate(found):
        own = wanted[rank::world]
        assert len(batches) == len(own) and all(map(same, batches, own))


def test_the_first_process_is_the_last_to_have_nothing():
    for size in range(1, 9):
        counts = [len(RankSlice(rank, 5).places(size)) for rank in range(5)]
        assert sum(counts) == size and counts[0] >= 1 and max(counts) - min(counts) <= 1


def test_one_process_has_no_neighbour():
    assert WHOLE.places(4).tolist() == [0, 1, 2, 3] and RankSlice(0, 1, neighbour=True).places(2).tolist() == [0, 1]
