"""Streams in memory: a shard is a list of numbers, an image is its number in every pixel."""

import re

import numpy as np
import pytest
import torch

from gcp.data import Loader, create_loader
from gcp.data.images import IndexedSet
from gcp.data.normalize import Normalize
from gcp.data.shard_streams import shuffled
from gcp.data.stream import Sample, Shard, StreamSet
from gcp.data.stream_loader import StreamLoader
from gcp.errors import DataError, OptionError

CLASSES = 5


class Seeded:
    """The image beside the seed that augments it: (B, 2, 1, 1)."""

    normalize = Normalize((0.5, 0.5), (0.5, 0.5))

    def __call__(self, images, seeds):
        numbers = torch.stack(list(images)).double()
        chosen = torch.zeros(len(numbers)) if seeds is None else torch.from_numpy((seeds % 2**32).astype(np.float64))
        return torch.stack([numbers, chosen.double()], 1)[:, :, None, None]


def stream(lengths, read=None, **options):
    starts = np.cumsum([0, *lengths])
    shards = [Shard(f"{start}", length) for start, length in zip(starts, lengths, strict=False)]

    def numbers(shard):
        first = int(shard.name)
        return (Sample(str(n), n, n % CLASSES) for n in range(first, first + shard.count))

    return StreamSet(shards, read or numbers, lambda s: torch.tensor(s.image), CLASSES, Seeded(), **options)


def numbers(batches):
    return [images[:, 0, 0, 0].int().tolist() for images, _ in batches]


def flat(batches):
    return [n for batch in numbers(batches) for n in batch]


LENGTHS = [
    (1,),
    (7,),
    (3, 3, 3),
    (5, 1, 4, 2),
    (1,) * 20,
    (9, 2, 8, 3, 7, 4, 6, 5, 1, 11, 2),
]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_evaluation_reads_every_sample_once(lengths, batch):
    loader = StreamLoader(stream(lengths), batch, train=False, workers=0)
    batches = list(loader.epoch(0))
    assert sorted(flat(batches)) == list(range(sum(lengths)))
    assert [len(labels) for _, labels in batches[:-1]] == [batch] * (len(loader) - 1)
    for images, labels in batches:
        assert (images[:, 0, 0, 0].long() % CLASSES).equal(labels) and not images[:, 1].any()


@pytest.mark.parametrize("lengths", LENGTHS[1:], ids=str)
@pytest.mark.parametrize("buffer", [1, 3, 1000])
def test_an_epoch_of_training_has_every_sample_once(lengths, buffer):
    loader = StreamLoader(stream(lengths, buffer=buffer), 4, train=True, seed=1, workers=0)
    total = sum(lengths)
    used = total - (total % 4 == 1)  # a last batch of one image is left out
    for epoch in (0, 1):
        batches = list(loader.epoch(epoch))
        found = flat(batches)
        assert len(batches) == len(loader) == -(-used // 4)
        assert len(set(found)) == len(found) == used and set(found) <= set(range(total))
        seeds = torch.cat([images[:, 1, 0, 0] for images, _ in batches])
        assert len(seeds.unique()) == used  # each image is augmented in its own way
    assert flat(loader.epoch(0)) != flat(loader.epoch(1)) or total < 8


@pytest.mark.parametrize("train", [True, False])
def test_neither_order_nor_augmentation_depends_on_workers(train, random_state):
    before = random_state()
    runs = []
    for workers in (0, 1, 3):  # 3 does not divide the 11 shards, nor the 8 lanes
        loader = StreamLoader(stream(LENGTHS[-1]), 4, train=train, seed=2, workers=workers)
        assert loader.workers == workers
        runs.append([list(loader.epoch(1)), list(loader.epoch(2)), list(loader.epoch(1))])
    for run in runs:
        assert [torch.cat([images for images, _ in epoch]).tolist() for epoch in run] == [
            torch.cat([images for images, _ in epoch]).tolist() for epoch in runs[0]
        ]
        assert sorted(flat(run[0])) == sorted(flat(run[2])) and numbers(run[0]) == numbers(run[2])
    assert random_state() == before


@pytest.mark.parametrize("workers", [0, 3])
def test_an_epoch_can_start_anywhere(workers):
    loader = StreamLoader(stream(LENGTHS[-1]), 4, train=True, seed=3, workers=workers)
    whole = list(loader.epoch(5))
    for start in range(len(loader) + 1):
        rest = list(loader.epoch(5, start))
        assert len(rest) == len(whole) - start
        assert all(a[0].equal(b[0]) and a[1].equal(b[1]) for a, b in zip(rest, whole[start:], strict=True))
    with pytest.raises(OptionError, match=rf"\b{len(loader)} batches .*batch {len(loader) + 1}\b"):
        loader.epoch(0, len(loader) + 1)


def test_what_is_before_the_start_is_not_decoded():
    images, decoded = stream((20, 20)), []
    images._decode = lambda sample: decoded.append(sample.image) or torch.tensor(sample.image)
    loader = StreamLoader(images, 4, train=True, workers=0)
    assert len(flat(loader.epoch(0, 8))) == len(decoded) == 8


def test_samples_are_shuffled_far_and_near():
    """Within a shard, and between shards; another seed gives another order."""
    orders = [flat(StreamLoader(stream((50,) * 4), 10, train=True, seed=s, workers=0).epoch(0)) for s in (0, 1)]
    assert orders[0] != orders[1]
    first = orders[0][:10]
    assert first != sorted(first) and np.ptp(first) < 50  # from one shard
    assert len({n // 50 for n in orders[0][:40]}) == 4  # the shards in turn


def test_shuffled_is_even():
    """Over many seeds the first sample out is any of the buffer with the same chance."""
    draws = [next(shuffled(iter([Sample("", n, 0) for n in range(6)]), 5, seed)).image for seed in range(2000)]
    counts = np.bincount(draws, minlength=5)[:5]
    assert abs(counts - 400).max() < 90  # five standard deviations


@pytest.mark.parametrize(("given", "length", "text"), [(2, 3, "holds 2 images; .* has 3"), (3, 2, "more than 2 .* 2")])
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("train", [True, False])
def test_a_shard_of_another_length_is_an_error(given, length, text, workers, train):
    """In training and evaluation, in the last shard too."""
    images = stream((4, length), lambda s: [Sample("", 0, 0)] * (given if s.name == "4" else s.count))
    loader = StreamLoader(images, 2, train=train, workers=workers)
    with pytest.raises(DataError, match=text):
        list(loader.epoch(0))


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_is_no_class_is_an_error(label):
    loader = StreamLoader(stream((2,), lambda s: [Sample("it", 0, label)] * 2), 2, train=False, workers=0)
    with pytest.raises(DataError, match=f"label of it is {label}; allowed: 0 to 4"):
        list(loader.epoch(0))


def test_another_epoch_ends_the_one_before():
    loader = StreamLoader(stream((6, 6)), 2, train=True, workers=0)
    first = loader.epoch(0)
    next(first)
    list(loader.epoch(1))
    with pytest.raises(RuntimeError, match="ended when another epoch"):
        next(first)


def test_workers_no_more_than_can_read():
    assert StreamLoader(stream((2, 2)), 2, train=True, workers=5).workers == 2
    assert StreamLoader(stream((2,) * 20), 2, train=True, workers=20).workers == 8
    one = StreamLoader(stream((2, 2), most_workers=1), 2, train=True, workers=5)
    assert one.workers == 1 and re.search(r"\b1 processes .*all .*stream", one.advice)


def test_the_loader_is_chosen_by_the_kind_of_the_images():
    assert isinstance(create_loader(stream((2, 2)), 2, train=True), StreamLoader)
    listed = IndexedSet(lambda index: torch.tensor(index), [0, 1], Seeded())
    assert isinstance(create_loader(listed, 2, train=True, workers=0), Loader)
    with pytest.raises(OptionError, match="1 images make no batch of 2"):
        create_loader(stream((1,)), 2, train=True)
