import numpy as np
import pytest
import torch

from gcp.data.transforms import create_transform


def batch(count, size, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


def windows(image, padding):
    """Every window of the padded image and its mirror, as bytes, each with its place."""
    size = image.shape[-1]
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    found = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            window = padded[:, top : top + size, left : left + size]
            found[window.tobytes()] = (top, left, False)
            found[np.ascontiguousarray(window[:, :, ::-1]).tobytes()] = (top, left, True)
    return found


@pytest.mark.parametrize(("size", "padding", "channels"), [(32, 4, 3), (16, 2, 1)])
def test_each_result_is_a_window_of_the_padded_image_and_all_places_come(size, padding, channels):
    images = batch(1, size, channels)
    allowed = windows(images[0].numpy(), padding)
    transform = create_transform("pad_crop", "square", size, channels)
    got = transform(images.expand(600, -1, -1, -1), np.arange(600, dtype=np.uint64))
    assert got.dtype == torch.uint8 and got.shape == (600, channels, size, size)
    places = [allowed[image.numpy().tobytes()] for image in got]
    assert {top for top, _, _ in places} == {left for _, left, _ in places} == set(range(2 * padding + 1))
    assert 250 <= sum(mirrored for _, _, mirrored in places) <= 350
    # Row, column and mirror are drawn apart from each other.
    draws = np.array(places, dtype=float)
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.15


def test_the_plain_part_leaves_images_of_the_size_as_they_are():
    images = batch(4, 32)
    transform = create_transform("pad_crop", "square", 32, 3)
    assert torch.equal(transform(images, None), images)
    seeds = np.arange(4, dtype=np.uint64)
    kept = images.clone()
    assert torch.equal(transform(images, seeds), transform(list(images), seeds))
    assert torch.equal(images, kept)
    assert transform(images[:0], seeds[:0]).shape == (0, 3, 32, 32)
