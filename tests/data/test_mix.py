import pytest
import torch

from gcp.data import mix
from gcp.errors import OptionError

IMAGES = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 16, 16).contiguous()
LABELS = torch.tensor([0, 1, 2, 3])


def test_off_gives_one_hot_labels():
    images, labels = mix(IMAGES, LABELS, 5, 0, 0, 0)
    assert torch.equal(images, IMAGES)
    assert torch.equal(labels, torch.eye(5)[:4])


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0), (0, 1.0), (0.2, 1.0)])
def test_mixing_is_a_function_of_its_arguments(mixup, cutmix, random_state):
    before = random_state()
    first = mix(IMAGES, LABELS, 5, mixup, cutmix, 7)
    assert random_state() == before
    torch.manual_seed(99)
    second = mix(IMAGES, LABELS, 5, mixup, cutmix, 7)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    other = [mix(IMAGES, LABELS, 5, mixup, cutmix, seed)[1] for seed in range(8)]
    assert any(not torch.equal(first[1], labels) for labels in other)
    assert torch.equal(IMAGES[:, 0, 0, 0], torch.arange(4.0)) and LABELS.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(6))
def test_labels_are_mixed_as_the_pixels_are(seed):
    images, labels = mix(IMAGES, LABELS, 5, 0.8, 0.8, seed)
    assert images.shape == IMAGES.shape and labels.shape == (4, 5) and labels.dtype == torch.float32
    # An image of the constant value i and label i: the mean pixel is the mean label.
    torch.testing.assert_close(images.mean(dim=(1, 2, 3)), labels @ torch.arange(5.0))
    torch.testing.assert_close(labels.sum(1), torch.ones(4))


@pytest.mark.parametrize("seed", range(6))
def test_a_slice_needs_its_images_and_the_one_before(seed):
    """The partner of an image is the one before it in the batch, that of the first the last."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(7, 3, 16, 12, generator=generator)
    labels = torch.arange(7) % 5
    whole = mix(images, labels, 5, 0.8, 0.8, seed)
    for begin, end in ((0, 3), (3, 5), (5, 7)):
        chosen = [(place - 1) % 7 for place in range(begin, end + 1)]
        part = mix(images[chosen], labels[chosen], 5, 0.8, 0.8, seed)
        for mine, all_of_them in zip(part, whole, strict=True):
            assert torch.equal(mine[1:], all_of_them[begin:end])


def test_both_methods_are_chosen():
    # CutMix keeps pixels whole, MixUp makes fractions.
    mixed = [mix(IMAGES, LABELS, 4, 1.0, 1.0, seed)[0] for seed in range(20)]
    whole = [torch.equal(images, images.round()) for images in mixed]
    assert 4 <= sum(whole) <= 16


@pytest.mark.parametrize(("mixup", "cutmix", "name"), [(-1, 0, "mixup"), (0, float("nan"), "cutmix")])
def test_alpha_out_of_range(mixup, cutmix, name):
    with pytest.raises(OptionError, match=rf"{name} must be 0 \(off\) or a positive number"):
        mix(IMAGES, LABELS, 4, mixup, cutmix, 0)
