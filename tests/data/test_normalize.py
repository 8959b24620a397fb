import pytest
import torch

from gcp.data.normalize import Normalize
from gcp.errors import OptionError, ShapeError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EVERY_BYTE = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)


def by_hand(images, scale):
    x = images.double() / scale
    return torch.stack([(x[:, c] - MEAN[c]) / STD[c] for c in range(3)], dim=1)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_every_byte_equals_float64_by_hand(order):
    images = EVERY_BYTE.contiguous(memory_format=order)
    kept = images.clone()
    got = Normalize(MEAN, STD)(images)
    assert got.dtype == torch.float32 and got.is_contiguous(memory_format=order)
    assert (got.double() - by_hand(EVERY_BYTE, 255)).abs().max() < 1e-6
    assert torch.equal(images, kept)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_are_in_0_to_1(dtype):
    images = (EVERY_BYTE / 256).to(dtype)  # exact in every type but bfloat16's last bits, which both sides see
    kept = images.clone()
    got = Normalize(MEAN, STD)(images)
    assert got.dtype == torch.float32
    assert (got.double() - by_hand(images, 1)).abs().max() < 1e-6
    assert torch.equal(images, kept)


def test_one_channel_and_any_number():
    for channels in (1, 5):
        got = Normalize((0.5,) * channels, (0.25,) * channels)(torch.full((2, channels, 3, 4), 255, dtype=torch.uint8))
        assert torch.equal(got, torch.full((2, channels, 3, 4), 2.0))


@pytest.mark.parametrize(("mean", "std"), [((), ()), ((0.5,), (0.2, 0.2)), ((0.5,), (0.0,)), ((0.5, 0.5), (0.2, -1.0))])
def test_statistics_that_make_no_sense(mean, std):
    with pytest.raises(OptionError, match=r"one mean .*one positive standard deviation .*got mean"):
        Normalize(mean, std)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 4, 4, dtype=torch.int64), r"uint8 or floating point; got torch\.int64"),
        (torch.zeros(2, 1, 4, 4), r"shape \(B, 3, H, W\); got \(2, 1, 4, 4\)"),
        (torch.zeros(3, 4, 4), r"shape \(B, 3, H, W\); got \(3, 4, 4\)"),
    ],
)
def test_images_that_do_not_fit(images, message):
    with pytest.raises(ShapeError, match=message):
        Normalize(MEAN, STD)(images)


def test_a_first_call_without_gradients_does_not_spoil_the_next():
    normalize = Normalize((0.123,), (0.456,))
    images = torch.rand(2, 1, 3, 3, requires_grad=True)
    with torch.inference_mode():
        normalize(images)
    normalize(images).sum().backward()
    torch.testing.assert_close(images.grad, torch.full_like(images, 1 / 0.456))


def test_an_empty_batch():
    assert Normalize(MEAN, STD)(torch.zeros(0, 3, 4, 4, dtype=torch.uint8)).shape == (0, 3, 4, 4)
