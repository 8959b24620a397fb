import itertools

import numpy as np
import pytest
import torch

from gcp.data import Loader, create_dataset
from gcp.errors import OptionError


class Numbers:
    """A set whose images are their index and their seed, so that a batch tells what was asked for."""

    in_memory, paths = True, None

    def __init__(self, count):
        self.labels = np.arange(count)
        self.asked = []

    def __len__(self):
        return len(self.labels)

    def read(self, indices, seeds=None):
        self.asked.extend(np.asarray(indices).tolist())
        first = torch.as_tensor(np.asarray(indices))
        second = np.full(len(first), -1) if seeds is None else seeds.astype(np.int64)
        return torch.stack([first, torch.as_tensor(second)], dim=1), first


def read(loader, epoch, start=0):
    return [(images.tolist(), labels.tolist()) for images, labels in loader.epoch(epoch, start)]


def equal(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True)
    )


def test_evaluation_reads_every_image_once_in_natural_order():
    loader = Loader(Numbers(9), 4, train=False)
    assert [labels for _, labels in read(loader, 0)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert len(loader) == 3 and loader.samples == 9
    assert all(seed == -1 for images, _ in read(loader, 5) for _, seed in images)
    assert read(loader, 0) == read(loader, 7)


def test_evaluation_ignores_drop_last():
    assert Loader(Numbers(10), 4, train=False, drop_last=True).samples == 10


@pytest.mark.parametrize(
    ("count", "size", "drop_last", "sizes"),
    [
        (10, 4, False, [4, 4, 2]),
        (10, 4, True, [4, 4]),
        (9, 4, False, [4, 4]),  # a single image cannot go through batch norm
        (8, 4, False, [4, 4]),
        (3, 1, False, [1, 1, 1]),
        (3, 8, False, [3]),
    ],
)
def test_training_batches(count, size, drop_last, sizes):
    loader = Loader(Numbers(count), size, train=True, drop_last=drop_last)
    batches = read(loader, 0)
    assert [len(labels) for _, labels in batches] == sizes
    assert len(loader) == len(sizes) and loader.samples == sum(sizes)
    labels = [label for _, part in batches for label in part]
    assert len(set(labels)) == len(labels)


def test_order_is_a_function_of_seed_and_epoch():
    loader = Loader(Numbers(50), 8, train=True, seed=3)
    third = read(loader, 3)
    assert read(loader, 4) != third
    assert read(loader, 3) == third
    assert read(Loader(Numbers(50), 8, train=True, seed=3), 3) == third
    assert read(Loader(Numbers(50), 8, train=True, seed=4), 3) != third
    assert sorted(loader.order(3).tolist()) == list(range(50))
    assert [label for _, labels in third for label in labels] == loader.order(3).tolist()


def test_seeds_follow_the_place_and_the_epoch():
    def seeds(batches):
        return [seed for images, _ in batches for _, seed in images]

    small, large = (Loader(Numbers(50), size, train=True) for size in (5, 25))
    assert seeds(read(small, 1)) == seeds(read(large, 1))
    assert len(set(seeds(read(small, 1)) + seeds(read(small, 2)))) == 100


def test_start_skips_without_reading():
    images = Numbers(50)
    loader = Loader(images, 8, train=True)
    whole = read(loader, 2)
    images.asked.clear()
    assert read(loader, 2, start=4) == whole[4:]
    assert len(images.asked) == 50 - 4 * 8
    assert read(loader, 2, start=len(loader)) == []


def test_the_random_state_is_neither_used_nor_moved(make_tree, random_state):
    tree = make_tree({"train": {"a": 6, "b": 6}, "test": {"a": 1, "b": 1}})
    sets = create_dataset("folder", tree, image_size=16).train, create_dataset("digits", per_class=2).train
    for images, workers in itertools.product(sets, (0, 1)):
        loader = Loader(images, 4, train=True, workers=workers)
        before = random_state()
        first = list(loader.epoch(0))
        assert random_state() == before
        torch.manual_seed(1234)
        np.random.seed(5)
        assert equal(first, list(loader.epoch(0)))


@pytest.mark.parametrize("name", ["digits", "folder"])
def test_batches_do_not_depend_on_workers(make_tree, name):
    if name == "digits":
        images = create_dataset("digits", per_class=4).train
    else:
        tree = make_tree({"train": {"a": 10, "b": 10}, "test": {"a": 1, "b": 1}})
        images = create_dataset("folder", tree, image_size=16).train
    alone, helped = (Loader(images, 4, train=True, seed=1, workers=workers) for workers in (0, 2))
    for epoch, start in ((0, 0), (1, 2), (0, 1)):
        assert equal(list(alone.epoch(epoch, start)), list(helped.epoch(epoch, start)))


def test_workers_survive_an_epoch_that_is_left_early():
    loader, alone = (Loader(Numbers(40), 4, train=True, workers=workers) for workers in (2, 0))
    next(loader.epoch(0))
    assert read(loader, 1) == read(alone, 1)
    read(loader, 2)
    pids = [worker.pid for worker in loader._loader._iterator._workers]
    read(loader, 3)
    assert [worker.pid for worker in loader._loader._iterator._workers] == pids


@pytest.mark.parametrize("workers", [0, 1])
def test_a_second_epoch_ends_the_first(workers):
    loader = Loader(Numbers(40), 4, train=True, workers=workers)
    first, second = loader.epoch(0), loader.epoch(1)
    next(first)
    next(second)
    with pytest.raises(RuntimeError, match="ended when another epoch of the same loader began"):
        next(first)
    assert len(list(second)) == 9


def test_automatic_workers(make_tree, monkeypatch):
    tree = make_tree({"train": {"a": 3, "b": 3}, "test": {"a": 1, "b": 1}})
    files = create_dataset("folder", tree, image_size=16).test
    for cores, expected in ((3, 3), (64, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert Loader(files, 1, train=False).workers == expected
    assert Loader(Numbers(4), 1, train=False).workers == 0


@pytest.mark.parametrize("workers", [-1, "many", 1.5, True])
def test_workers_out_of_range(workers):
    with pytest.raises(OptionError, match=r"workers .*'auto' .*\b0\b.*got"):
        Loader(Numbers(4), 2, train=True, workers=workers)


def test_nothing_to_iterate():
    with pytest.raises(OptionError, match=r"\b3 images .*\b8\b.*at most 3\b"):
        Loader(Numbers(3), 8, train=True, drop_last=True)
    with pytest.raises(OptionError, match="1 images make no batch of 8"):
        Loader(Numbers(1), 8, train=True)
    with pytest.raises(OptionError, match="0 images make no batch of 8"):
        Loader(Numbers(0), 8, train=False)
    with pytest.raises(OptionError, match="batch_size must be at least 1; got 0"):
        Loader(Numbers(3), 0, train=True)


@pytest.mark.parametrize("start", [-1, 4])
def test_start_out_of_range(start):
    with pytest.raises(OptionError, match=rf"\b3 batches .*batch {start}\b"):
        Loader(Numbers(12), 4, train=True).epoch(0, start)


@pytest.mark.parametrize(
    ("sampling", "shares"), [("balanced", [1 / 3, 1 / 3, 1 / 3]), ("sqrt", [9 / 13, 3 / 13, 1 / 13])]
)
def test_classes_are_drawn_as_often_as_asked(sampling, shares):
    """Of 81, 9 and 1 images; to a draw, in every epoch, and another order in each."""
    images = Numbers(91)
    images.labels = np.repeat([0, 1, 2], [81, 9, 1])
    loader = Loader(images, 13, train=True, seed=3, sampling=sampling)
    orders = [loader.order(epoch) for epoch in range(3)]
    for order in orders:
        counts = np.bincount(images.labels[order], minlength=3)
        assert np.abs(counts - 91 * np.array(shares)).max() <= 1
        assert np.bincount(order[images.labels[order] == 0]).max() <= 1 + (sampling == "sqrt")
    assert not np.array_equal(orders[0], orders[1]) and np.array_equal(orders[0], loader.order(0))
    seeds = {tuple(row) for images_, _ in loader.epoch(0) for row in images_.tolist()}
    assert len(seeds) == 91  # an image that comes again is augmented in another way


def test_another_sampling():
    images = Numbers(4)
    images.labels = np.zeros(4, dtype=np.int64)
    with pytest.raises(OptionError, match=r"data\.sampling is 'even'; allowed: uniform, balanced, sqrt"):
        Loader(images, 2, train=True, sampling="even").order(0)
