"""What holds for all transforms with a name."""

import numpy as np
import pytest
import torch

from gcp.data import Loader
from gcp.data.images import FileSet, TensorSet
from gcp.data.transforms import TRANSFORMS, create_transform
from gcp.errors import UnknownNameError

EVERY = list(TRANSFORMS)
ODD = [(1, 1), (1, 60), (60, 1), (3, 2), (2, 900), (900, 2), (7, 31), (64, 64), (33, 400)]


def seeds(*values):
    return np.array(values, dtype=np.uint64)


def picture(height, width, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, height, width), generator=generator, dtype=torch.uint8)


def build(name, size=16, channels=3):
    return create_transform(name, "square", size, channels)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_odd_images_give_bytes_of_the_wanted_size(name, channels):
    transform = build(name, 16, channels)
    images = [picture(*shape, channels) for shape in ODD]
    for chosen in (None, seeds(*range(len(ODD)))):
        got = transform(iter(images), chosen)
        assert got.shape == (len(ODD), channels, 16, 16) and got.dtype == torch.uint8
    assert transform.normalize(got).dtype == torch.float32


@pytest.mark.parametrize("name", EVERY)
def test_an_image_follows_its_seed_alone(name, random_state):
    """Whatever its neighbours are, and wherever the global generators stand."""
    transform = build(name)
    images = [picture(40, 50, seed=n) for n in range(4)]
    before = random_state()
    together = transform(images, seeds(1, 2, 3, 4))
    assert random_state() == before
    torch.manual_seed(7)
    np.random.seed(7)
    assert torch.equal(transform([images[2]], seeds(3))[0], together[2])
    assert torch.equal(transform(images[::-1], seeds(4, 3, 2, 1)).flip(0), together)
    many = transform([images[0]] * 12, seeds(*range(12)))
    assert (len(many.flatten(1).unique(dim=0)) > 1) == (name != "resize")  # which does not augment


@pytest.mark.parametrize("name", EVERY)
def test_without_seeds_nothing_is_random_and_nothing_is_drawn(name, random_state):
    transform = build(name)
    before = random_state()
    first = transform([picture(40, 50)], None)
    assert random_state() == before
    assert torch.equal(first, transform([picture(40, 50)], None))


@pytest.mark.parametrize("name", EVERY)
def test_one_colour_stays_that_colour(name):
    """But for what is black, or the mean, where there is no image; policies change colours by design."""
    image = torch.tensor([200, 100, 50], dtype=torch.uint8).view(3, 1, 1).expand(3, 30, 40)
    plain = build(name)([image], None)
    assert torch.equal(plain, image[None, :, :1, :1].expand(1, 3, 16, 16))
    if not name.startswith(("modern", "randaugment", "trivial", "auto")):
        got = build(name)([image] * 8, seeds(*range(8))).movedim(1, -1).reshape(-1, 3).unique(dim=0).tolist()
        assert [colour for colour in got if colour != [0, 0, 0]] == [[200, 100, 50]]


@pytest.mark.parametrize("name", EVERY)
def test_images_in_memory_and_files_are_alike(name, tmp_path):
    from PIL import Image

    images = torch.stack([picture(16, 16, seed=n) for n in range(3)])
    paths = [str(tmp_path / f"{n}.png") for n in range(3)]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    held, stored = TensorSet(images, [0, 1, 2], build(name)), FileSet(paths, [0, 1, 2], build(name), 3)
    for chosen in (None, seeds(5, 6, 7)):
        assert torch.equal(held.read([0, 1, 2], chosen)[0], stored.read([0, 1, 2], chosen)[0])
    assert held.normalize is held.transform.normalize and stored.normalize is stored.transform.normalize


@pytest.mark.parametrize("name", ["modern", "random_resized_crop", "pad_crop"])
def test_batches_do_not_depend_on_workers(name):
    images = TensorSet(torch.stack([picture(20, 20, seed=n) for n in range(10)]), list(range(10)), build(name))
    alone, helped = (list(Loader(images, 4, train=True, seed=1, workers=n).epoch(2)) for n in (0, 2))
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(alone, helped, strict=True))


def test_default_none_and_a_name():
    images, chosen = [picture(30, 40)], seeds(3)
    square, crop = (TRANSFORMS[name].obj(16, 3) for name in ("square", "random_resized_crop"))
    for name, expected in [
        ("default", crop(images, chosen)),
        ("square", square(images, chosen)),
        ("none", crop(images, None)),
    ]:
        assert torch.equal(create_transform(name, "random_resized_crop", 16, 3)(images, chosen), expected)
    with pytest.raises(UnknownNameError, match=r"'sqare'.*Did you mean 'square'\?.*none"):
        create_transform("sqare", "square", 16, 3)


def test_every_transform_has_a_summary():
    assert all(entry.summary for entry in TRANSFORMS.list())
    assert {"random_resized_crop", "center_crop", "square_crop", "square", "pad_crop", "modern"} < set(EVERY)
