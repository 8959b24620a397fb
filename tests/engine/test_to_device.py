import pytest
import torch

from gcp.data.normalize import Normalize
from gcp.engine.device import ToDevice

CPU = torch.device("cpu")
NORMALIZE = Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (4, 3, 6, 5), generator=GENERATOR, dtype=torch.uint8)
LABELS = torch.tensor([0, 2, 1, 2])


def order(channels_last):
    return torch.channels_last if channels_last else torch.contiguous_format


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_the_result_has_the_wanted_memory_order_mixed_or_not(given, wanted, seed):
    to_device = ToDevice(CPU, NORMALIZE, channels_last=wanted, mixup=0.5, cutmix=0.5, num_classes=3)
    images, labels = to_device(IMAGES.contiguous(memory_format=order(given)), LABELS, seed)
    assert images.dtype == torch.float32 and images.is_contiguous(memory_format=order(wanted))
    assert labels.shape == ((4,) if seed is None else (4, 3))


def test_normalised_before_it_is_mixed():
    """CutMix moves pixels as they are, MixUp weighs images that have been normalised."""
    plain, _ = ToDevice(CPU, NORMALIZE)(IMAGES, LABELS)
    for mixup, cutmix in ((1.0, 0.0), (0.0, 1.0)):
        images, labels = ToDevice(CPU, NORMALIZE, mixup=mixup, cutmix=cutmix, num_classes=3)(IMAGES, LABELS, 5)
        for place, (image, label) in enumerate(zip(images, labels, strict=True)):
            before = (place - 1) % 4  # the partner is the image before it in the batch
            share = 1.0 if LABELS[place] == LABELS[before] else label[LABELS[place]].item()
            if mixup and share < 1:
                expected = share * plain[place] + (1 - share) * plain[before]
                torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)
            if cutmix:
                assert bool(((image == plain[place]) | (image == plain[before])).all())


def test_labels_stay_numbers_without_an_alpha_or_a_seed():
    for to_device, seed in ((ToDevice(CPU, NORMALIZE), 3), (ToDevice(CPU, NORMALIZE, mixup=1.0, num_classes=3), None)):
        images, labels = to_device(IMAGES, LABELS, seed)
        assert torch.equal(labels, LABELS)
        assert torch.equal(images, NORMALIZE(IMAGES))


def test_again_the_same_and_the_batch_as_it_was(random_state=torch.get_rng_state):
    to_device = ToDevice(CPU, NORMALIZE, mixup=0.5, cutmix=0.5, num_classes=3)
    kept, before = IMAGES.clone(), random_state()
    first, second = to_device(IMAGES, LABELS, 9), to_device(IMAGES, LABELS, 9)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(IMAGES, kept) and torch.equal(random_state(), before)
