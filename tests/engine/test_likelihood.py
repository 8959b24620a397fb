"""Bits per dimension as an objective and as a score."""

import math

import pytest
import torch

from gcp.data import create_loader
from gcp.data.images import TensorSet
from gcp.data.normalize import Normalize
from gcp.data.rank_slice import RankSlice
from gcp.engine.likelihood import Bits, evaluate_bits
from gcp.errors import NonFiniteError

BITS = Bits(dimensions=4, levels=16)


class Plain:
    """A transform that does nothing."""

    normalize = Normalize((0.0,), (1.0,))

    def __call__(self, images, seeds):
        return images


def loader(count=7, **options):
    images = torch.arange(4.0 * count).view(count, 1, 2, 2)
    return create_loader(TensorSet(images, [0] * count, Plain()), 3, train=False, workers=0, **options)


def density(images):
    return images.flatten(1).sum(1)


def test_scores_are_those_of_every_image_once():
    scores = evaluate_bits(density, loader(), torch.device("cpu"), BITS)
    each = [4 - sum(range(4 * k, 4 * k + 4)) / (4 * math.log(2)) for k in range(7)]
    mean = sum(each) / 7
    assert scores["count"] == 7 and scores["loss"] == pytest.approx(mean)
    deviation = math.sqrt(sum((bits - mean) ** 2 for bits in each) / 6)
    assert scores["error"] == pytest.approx(deviation / math.sqrt(7))


def test_processes_score_a_part_each(monkeypatch):
    """The sum over processes of what each has found is what one process finds."""
    found = []
    for rank in range(2):
        group = Summing()
        evaluate_bits(density, loader(rank_slice=RankSlice(rank, 2)), torch.device("cpu"), BITS, group)
        found.append(group.seen)
    alone = Summing()
    evaluate_bits(density, loader(), torch.device("cpu"), BITS, alone)
    assert torch.equal(found[0] + found[1], alone.seen) and not (found[0] * found[1]).any()


class Summing:
    """In the place of a group: keeps what it is asked to sum."""

    def heartbeat(self):
        pass

    def sum(self, tensor):
        self.seen = tensor.clone()
        return tensor


def test_faults():
    with pytest.raises(NonFiniteError, match="2 of 7 images have a density that is not finite"):
        evaluate_bits(
            lambda images: torch.where(images[:, 0, 0, 0] > 16, torch.nan, 0.0), loader(), torch.device("cpu"), BITS
        )


def test_objective():
    outputs = torch.tensor([0.0, 4 * math.log(2)], requires_grad=True)
    loss, counted = BITS(outputs, torch.zeros(2))
    assert loss.item() == pytest.approx(4 + 3) and counted == 0
    (gradient,) = torch.autograd.grad(loss, outputs)
    torch.testing.assert_close(gradient, torch.full((2,), -1 / (4 * math.log(2))))
    assert BITS.columns(2.5, 0.0, {"loss": 2.6}) == {"train_bits": 2.5, "val_bits": 2.6}
    assert BITS.columns(2.5, 0.0, {})["val_bits"] is None
