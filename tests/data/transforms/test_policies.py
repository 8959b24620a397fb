import pickle

import numpy as np
import pytest
import torch

from gcp.data import create_dataset
from gcp.data.transforms import TRANSFORMS, create_transform
from gcp.errors import OptionError, UnknownNameError

NAMES = ("randaugment", "trivial", "auto")


def images(channels=3):
    return torch.randint(0, 256, (12, channels, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def augmented(name, channels=3, seed=0):
    seeds = np.arange(12, dtype=np.uint64) + np.uint64(100 * seed)
    return create_transform(name, "resize", 24, channels)(images(channels), seeds)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_strength_changes_what_the_seed_draws(name, channels):
    """The same seeds give the same images; without strength what is left is the crop and the mirror."""
    out = augmented(name, channels)
    assert out.shape == (12, channels, 24, 24) and out.dtype == torch.uint8
    assert torch.equal(out, augmented(name, channels)) and not torch.equal(out, augmented(name, channels, seed=1))
    none, strong = augmented(f"{name}:0", channels).float(), augmented(f"{name}:1", channels).float()
    assert (strong - none).abs().mean() > (augmented(f"{name}:0.1", channels).float() - none).abs().mean()


@pytest.mark.parametrize("name", NAMES)
def test_the_plain_part_is_that_of_the_published_crop(name):
    plain = create_transform(f"{name}:0.7", "resize", 24, 3)(images(), None)
    assert torch.equal(plain, create_transform("random_resized_crop", "resize", 24, 3)(images(), None))


@pytest.mark.parametrize(
    "text", ["randaugment:1.5", "randaugment:", "randaugment:x", "square:0.5", "nothing:0.5", "trivial:nan"]
)
def test_other_strengths_are_refused(text, tmp_path):
    assert text not in TRANSFORMS
    with pytest.raises(UnknownNameError):
        create_transform(text, "resize", 24, 3)
    with pytest.raises(OptionError, match=r"data\.transform of folder: got .*as randaugment:0\.5"):
        create_dataset("folder", tmp_path, transform=text)


def test_a_strength_is_a_name_like_any_other():
    assert "auto:0.25" in TRANSFORMS and TRANSFORMS["auto:0.25"] == "auto:0.25" and "auto:0.25" not in list(TRANSFORMS)
    assert pickle.loads(pickle.dumps(TRANSFORMS["auto:0.25"])) == "auto:0.25"
