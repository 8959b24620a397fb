"""Every sample once and in its place, for any batch size and any number of processes."""

from threading import Barrier, Thread

import pytest
import torch
from torch import nn

from gcp.data import Loader
from gcp.data.images import TensorSet
from gcp.data.rank_slice import RankSlice
from gcp.engine.distributed import Group
from gcp.engine.evaluate import collect, score
from gcp.errors import NonFiniteError

CPU = torch.device("cpu")


class Table(nn.Module):
    """The images are the logits."""

    num_classes = 6

    def forward(self, images):
        return images.flatten(1)


class AsTheyAre:
    def normalize(self, images):
        return images

    def __call__(self, images, seeds):
        return images


def table(count=23, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 6, (count,), generator=generator).tolist()
    return TensorSet(torch.randn(count, 1, 1, 6, generator=generator), labels, AsTheyAre())


def test_against_each_image_alone():
    images = table()
    got = collect(Table(), Loader(images, 4, train=False), CPU)
    probabilities = images.images.flatten(1).double().softmax(1)
    for index in range(23):
        order = sorted(range(6), key=lambda c, row=probabilities[index]: -row[c])
        assert got.classes[index].tolist() == order[:5]
        assert got.labels[index] == images.labels[index]
        assert got.confidence[index] == pytest.approx(probabilities[index].max().item())
        assert got.right[index].item() == (order[0] == images.labels[index])
        assert got.losses[index] == pytest.approx(-probabilities[index, got.labels[index]].log().item(), rel=1e-5)


class Meeting(Group):
    """Processes as threads: the sum of what they bring."""

    def __init__(self, rank, world, box, barrier):
        super().__init__(rank, world)
        object.__setattr__(self, "box", box)
        object.__setattr__(self, "barrier", barrier)

    def sum(self, tensor):
        self.box[self.rank] = tensor.clone()
        self.barrier.wait()
        total = sum(self.box[rank] for rank in range(self.world))
        self.barrier.wait()
        return total


@pytest.mark.parametrize("world", [2, 3, 7])
@pytest.mark.parametrize("batch", [1, 4, 23])
def test_several_processes_give_the_bits_of_one(world, batch):
    alone = collect(Table(), Loader(table(), batch, train=False), CPU)
    box, barrier, found = {}, Barrier(world, timeout=30), {}

    def work(rank):
        loader = Loader(table(), batch, train=False, rank_slice=RankSlice(rank, world))
        found[rank] = collect(Table(), loader, CPU, group=Meeting(rank, world, box, barrier))

    threads = [Thread(target=work, args=(rank,)) for rank in range(world)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(found) == list(range(world))
    for samples in found.values():
        for key in ("labels", "classes", "probabilities", "losses"):
            assert torch.equal(getattr(samples, key), getattr(alone, key)), key
        assert score(samples) == score(alone)


def test_fewer_than_five_classes():
    class Two(Table):
        num_classes = 2

    images = TensorSet(torch.tensor([[[[1.0, 2.0]]], [[[3.0, 0.0]]]]), [1, 1], AsTheyAre())
    got = collect(Two(), Loader(images, 2, train=False), CPU)
    assert got.classes.tolist() == [[1, 0], [0, 1]] and got.right.tolist() == [True, False]
    assert score(got).top5 is None


def test_non_finite_logits_end_it():
    images = table()
    images.images[5] = float("nan")
    with pytest.raises(NonFiniteError, match="evaluation: 1 of 23 images have non-finite logits"):
        collect(Table(), Loader(images, 4, train=False), CPU)
