import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torchvision.transforms import v2

from gcp.data.transforms import create_transform
from gcp.data.transforms.modern import RandAugment

SIZE = 48
RGB_MEAN = (124, 116, 104)  # of ImageNet in bytes
GENERATOR = torch.Generator().manual_seed(0)
TENSOR = torch.randint(0, 256, (3, 60, 80), generator=GENERATOR, dtype=torch.uint8)


def by_hand(image, seed, scale, colour):
    """timm's pipeline with Pillow between the crop and the erasing."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    image = v2.RandomHorizontalFlip()(v2.RandomResizedCrop(SIZE, scale=scale, antialias=True)(image))
    pixels = image.permute(1, 2, 0).numpy()
    fill = colour if len(colour) == 3 else colour[0]
    hparams = {"img_mean": fill, "interpolation": Image.Resampling.BILINEAR, "magnitude_max": 9.999}
    augment = rand_augment_transform("rand-m9-mstd0.5-inc1", hparams)
    pixels = np.asarray(augment(Image.fromarray(pixels if len(colour) == 3 else pixels[..., 0])))
    pixels = torch.from_numpy(pixels.reshape(SIZE, SIZE, -1).copy()).permute(2, 0, 1)
    return v2.RandomErasing(0.25, value=list(colour))(pixels)


@pytest.mark.parametrize(("name", "scale"), [("modern", (0.08, 1)), ("modern_fine_grained", (0.5, 1))])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_composition_under_the_same_seed(name, scale, channels):
    image = TENSOR[:channels]
    got = create_transform(name, "square", SIZE, channels)([image] * 40, np.arange(40, dtype=np.uint64))
    colour = RGB_MEAN if channels == 3 else (114,)
    for seed, augmented in enumerate(got):
        assert torch.equal(augmented, by_hand(image, seed, scale, colour)), seed


@pytest.mark.parametrize("colour", [RGB_MEAN, (114,)])
@pytest.mark.parametrize("magnitude", [0, 9, 10, 12])
def test_every_operation_takes_every_magnitude_in_grey_and_colour(colour, magnitude):
    """A magnitude is drawn around 9 and may pass 10, where posterising would leave no bit."""
    image = TENSOR[: len(colour)]
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy().squeeze())
    operations = RandAugment(colour).augment.ops
    assert len(operations) >= 14
    for operation in operations:
        operation.prob, operation.magnitude, operation.magnitude_std = 1.0, magnitude, 0
        assert np.asarray(operation(pixels)).shape == np.asarray(pixels).shape, operation.name


def test_a_quarter_of_the_images_has_a_rectangle_of_the_mean_colour():
    """Of white images, on which RandAugment alone cannot put that colour in a block of any size inside."""
    transform = create_transform("modern", "square", SIZE, 3)
    steps = [step for step in transform.train.transforms if not isinstance(step, RandAugment)]
    erase = v2.Compose(steps)
    torch.manual_seed(0)
    white = torch.full((3, 60, 80), 255, dtype=torch.uint8)
    colour = torch.tensor(RGB_MEAN, dtype=torch.uint8).view(3, 1, 1)
    erased = 0
    for _ in range(400):
        painted = (erase(white) == colour).all(0)
        erased += bool(painted.any())
        if painted.any():
            rows, columns = painted.any(1).sum(), painted.any(0).sum()
            assert painted.sum() == rows * columns and 0.01 < painted.float().mean() < 0.36
    assert 70 <= erased <= 130
