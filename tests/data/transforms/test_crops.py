"""The published crops against compositions written out by hand."""

import random

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision.transforms import v2

from gcp.data.transforms import Preprocessing, create_transform

SIZE = 112
RNG = np.random.default_rng(0)
Y, X = np.mgrid[0:150, 0:200]
# Smooth, so that two resamplers differ by little; no axis of symmetry.
PICTURE = np.stack([X, Y, (X + 2 * Y) / 3], -1) * 1.2 + RNG.normal(0, 3, (150, 200, 3))
PICTURE = PICTURE.clip(0, 255).astype(np.uint8)
TENSOR = torch.from_numpy(PICTURE).permute(2, 0, 1)


def pillow(name):
    """The plain part with Pillow alone: as published, 256/224 for ImageNet and 512/448 for square_crop."""
    image, size = Image.fromarray(PICTURE), SIZE
    if name in ("random_resized_crop", "modern", "modern_fine_grained", "center_crop"):
        short = size if name == "center_crop" else size * 8 // 7
        image = image.resize((200 * short // 150, short), Image.Resampling.BILINEAR)
    else:
        side = size * 8 // 7 if name == "square_crop" else size
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return torch.from_numpy(np.array(image.crop((left, top, left + size, top + size)))).permute(2, 0, 1)


@pytest.mark.parametrize(
    "name",
    ["random_resized_crop", "modern", "modern_fine_grained", "center_crop", "square_crop", "square", "pad_crop"],
)
def test_the_plain_part_equals_pillow(name):
    got = create_transform(name, "square", SIZE, 3)([TENSOR], None)[0]
    assert (got.int() - pillow(name).int()).abs().max() <= 2  # two roundings of two resamplers


STEPS = {
    "random_resized_crop": [v2.RandomResizedCrop(SIZE, scale=(0.08, 1), ratio=(3 / 4, 4 / 3), antialias=True)],
    "center_crop": [v2.Resize(SIZE, antialias=True), v2.CenterCrop(SIZE)],
    "square_crop": [v2.Resize((128, 128), antialias=True), v2.CenterCrop(SIZE)],
    "square": [v2.Resize((SIZE, SIZE), antialias=True)],
}


@pytest.mark.parametrize("name", list(STEPS))
def test_the_training_part_is_the_composition_under_the_same_seed(name):
    numbers = [0, 1, 2**63 + 5, 2**64 - 1, 12345, 6, 7, 8]
    got = create_transform(name, "square", SIZE, 3)([TENSOR] * 8, np.array(numbers, dtype=np.uint64))
    compose = v2.Compose([*STEPS[name], v2.RandomHorizontalFlip(0.5)])
    for image, seed in zip(got, numbers, strict=True):
        torch.manual_seed(seed % 2**63)
        assert torch.equal(image, compose(TENSOR))


@pytest.mark.parametrize("name", ["center_crop", "square_crop", "square"])
def test_one_image_of_two_is_mirrored_and_no_other_is_changed(name):
    transform = create_transform(name, "square", SIZE, 3)
    plain = transform([TENSOR], None)[0]
    got = transform([TENSOR] * 64, np.arange(64, dtype=np.uint64))
    same, mirrored = ([torch.equal(image, other) for image in got] for other in (plain, plain.flip(-1)))
    assert sum(same) + sum(mirrored) == 64 and 20 <= sum(same) <= 44


@pytest.mark.parametrize(("height", "width"), [(10, 600), (600, 10)])
def test_a_very_long_image_is_cropped_at_its_middle(height, width):
    """The same as without the shortcut, which leaves out what the crop cannot see."""
    image = torch.arange(600, dtype=torch.float32).div(600).mul(255).to(torch.uint8)
    image = (image.view(1, 1, 600) if width == 600 else image.view(1, 600, 1)).expand(3, height, width)
    got = create_transform("random_resized_crop", "square", 28, 3)([image], None)[0]
    expected = v2.Compose([v2.Resize(32, antialias=True), v2.CenterCrop(28)])(image)
    assert (got.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("mode", ["squash", "border"])
@pytest.mark.parametrize(("height", "width"), [(20, 300), (300, 20)])
def test_a_very_long_image_is_seen_whole_where_nothing_is_cropped(mode, height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    told = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 0.9, mode)
    transform = create_transform("random_resized_crop", "square", 32, 3, told)
    ours = transform.normalize(transform([torch.from_numpy(pixels).permute(2, 0, 1)], None)[0][None])[0]
    statistics = {"mean": told.mean, "std": told.std}
    theirs = timm.data.create_transform(
        (3, 32, 32), interpolation="bicubic", crop_pct=0.9, crop_mode=mode, **statistics
    )
    torch.testing.assert_close(ours, theirs(Image.fromarray(pixels)), rtol=0, atol=2e-6)


def test_grey_images_have_statistics_of_one_channel():
    transform = create_transform("random_resized_crop", "square", 16, 1)
    assert transform.normalize(torch.full((1, 1, 2, 2), 128, dtype=torch.uint8)).shape == (1, 1, 2, 2)
    assert (len(transform.normalize.mean), len(transform.normalize.std)) == (1, 1)


def test_the_global_generators_are_not_those_of_the_transform():
    transform = create_transform("random_resized_crop", "square", 16, 3)
    torch.manual_seed(0)
    random.seed(0)
    first = transform([TENSOR], np.array([4], dtype=np.uint64))
    torch.manual_seed(1)
    random.seed(1)
    assert torch.equal(first, transform([TENSOR], np.array([4], dtype=np.uint64)))
