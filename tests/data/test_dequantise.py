"""Noise on grey levels: uniform, of its keys alone, and never enough to reach the next level."""

import numpy as np
import pytest
import torch

from gcp.data import create_dataset, create_loader
from gcp.data.dequantise import Dequantised, levels_of, noise, quantise
from gcp.data.images import TensorSet
from gcp.data.seeds import uniform


class Plain:
    """A transform that does nothing."""

    normalize = None

    def __call__(self, images, seeds):
        return images


@pytest.fixture(scope="module")
def digits():
    """Training digits in their own size."""
    return create_dataset("digits", image_size=8, in_chans=1, transform="none").train


def test_digits_keep_their_levels(digits):
    from sklearn.datasets import load_digits

    images, labels = Dequantised(digits, 17, 1).read(range(50))
    assert images.shape == (50, 1, 8, 8) and images.dtype == torch.float32
    levels = levels_of(images, 17).long().flatten(1)
    known = {tuple(image) for image in load_digits().data.astype(int).tolist()}
    assert {tuple(image) for image in levels.tolist()} <= known
    assert torch.equal(labels, digits.read(range(50))[1])


def test_bytes_keep_their_levels():
    pixels = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)
    images, _ = Dequantised(TensorSet(pixels, [0] * 4, Plain()), 256, 1).read(range(4))
    assert torch.equal(levels_of(images, 256), pixels.float())
    assert images.min() > 0 and images.max() < 1


def test_what_lies_between_two_levels_is_rounded():
    assert quantise(torch.tensor([0.0, 0.03, 0.04, 1.0, 1.2]), 17).tolist() == [0, 0, 1, 16, 16]


def test_noise_is_uniform():
    found = np.sort(noise(np.arange(500), True, 64).flatten().numpy())
    assert found[0] > 0 and found[-1] < 1
    distance = np.abs(found - (np.arange(len(found)) + 0.5) / len(found)).max()
    assert distance < 1.63 / np.sqrt(len(found))  # Kolmogorov and Smirnov, one time in a hundred


def test_noise_is_a_function_of_its_keys():
    keys = np.array([7, 3, 7], dtype=np.uint64)
    found = noise(keys, True, 5)
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])
    assert not torch.equal(found, noise(keys, False, 5)), "seeds and indices have streams of their own"
    assert not np.allclose(found[0], uniform(keys[0], np.arange(5)))


def test_an_epoch_has_its_own_noise_and_repeats_it(digits):
    loader = create_loader(Dequantised(digits, 17, 1), 64, train=True, seed=3, workers=0)
    first, again, later = (next(iter(loader.epoch(epoch, 5)))[0] for epoch in (2, 2, 3))
    assert torch.equal(first, again) and not torch.equal(first, later)


def test_evaluation_has_one_noise_for_any_batch_size(digits):
    noisy = Dequantised(digits, 17, 1)
    whole, parts = (
        torch.cat([images for images, _ in create_loader(noisy, size, train=False, workers=0).epoch(0)])
        for size in (2000, 17)
    )
    assert torch.equal(whole, parts)


def test_what_it_is_made_of(digits):
    noisy = Dequantised(digits, 17, 1)
    assert (len(noisy), noisy.in_memory, noisy.paths) == (len(digits), True, None)
    assert np.array_equal(noisy.labels, digits.labels)
    assert torch.equal(noisy[3][0], noisy.read([3])[0][0]) and noisy[3][1] == digits.labels[3]
    few = noisy.subset([5, 6])
    assert len(few) == 2 and torch.equal(levels_of(few.read([1])[0], 17), levels_of(noisy.read([6])[0], 17))
    assert noisy.normalize(torch.full((1, 1, 2, 2), 0.75)).mean() == 0.25
