"""The condition number against covariances whose eigenvalues are known."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gcp.callbacks.hybrid.condition import condition_number, condition_numbers
from gcp.errors import NonFiniteError, ShapeError
from gcp.studies.fidelity.features import relu_features


def maps(eigenvalues, channels, side, dtype=torch.float64, shift=0.0):
    """One map (1, channels, side, side) whose covariance has these eigenvalues and zeros."""
    generator = torch.Generator().manual_seed(len(eigenvalues) + channels + side)
    samples, rank = side * side, len(eigenvalues)
    U = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64, generator=generator))[0][:, :rank]
    V = torch.randn(samples, rank + 1, dtype=torch.float64, generator=generator)
    V[:, 0] = 1  # the others become orthogonal to it, so that the mean of every channel is `shift`
    V = torch.linalg.qr(V)[0][:, 1:]
    X = U @ torch.diag((torch.tensor(eigenvalues, dtype=torch.float64) * samples).sqrt()) @ V.T + shift
    return X.reshape(1, channels, side, side).to(dtype)


@pytest.mark.parametrize(
    ("eigenvalues", "channels", "side"),
    [
        ([4.0, 2.0, 1.0], 3, 4),  # full rank
        ([4.0, 2.0, 1.0], 6, 4),  # three dead directions
        ([5.0, 1.0, 1e-3], 3, 2),  # as many samples as leave no null vector but the mean
        ([9.0, 3.0, 0.5], 20, 2),  # more channels than samples
        ([1.0, 1e-9], 8, 3),
        ([7.0], 5, 4),
    ],
)
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_known_eigenvalues(eigenvalues, channels, side, shift):
    found = condition_numbers(maps(eigenvalues, channels, side, shift=shift))
    assert found.dtype == torch.float64 and found.shape == (1,)
    assert found.item() == pytest.approx(max(eigenvalues) / min(eigenvalues), rel=1e-5)


def test_null_eigenvalues_included_the_number_would_be_rounding():
    x = maps([4.0, 2.0, 1.0], 6, 4)
    X = x.flatten(2)[0]
    all_of_them = torch.linalg.eigvalsh(X @ X.T).abs()
    assert all_of_them.max() / all_of_them.min() > 1e14 and condition_numbers(x).item() == pytest.approx(4)


@pytest.mark.parametrize("size", [2, 8])
def test_relu_features(size):
    x = relu_features(3, 8, size, torch.float64)
    eigenvalues = torch.stack([torch.linalg.eigvalsh(torch.cov(sample, correction=0)) for sample in x.flatten(2)])
    rank = min(8, size**2 - 1)
    assert torch.allclose(condition_numbers(x), eigenvalues[:, -1] / eigenvalues[:, -rank], rtol=1e-6)


def test_float32_features():
    assert condition_numbers(maps([4.0, 1e-3], 4, 4, torch.float32)).item() == pytest.approx(4e3, rel=1e-3)


@pytest.mark.parametrize("constant", [0.0, 1.0, 1e6])
def test_a_constant_map_has_no_condition_number(constant):
    x = torch.cat([torch.full((1, 3, 4, 4), constant, dtype=torch.float64), maps([2.0, 1.0, 1.0], 3, 4)])
    assert condition_numbers(x).tolist() == pytest.approx([math.inf, 2.0])


def test_one_position():
    with pytest.raises(ShapeError, match="the feature map is 1x1"):
        condition_numbers(torch.ones(1, 3, 1, 1))


def test_nan():
    with pytest.raises(NonFiniteError, match="the features of sample 0"):
        condition_numbers(torch.full((1, 3, 2, 2), math.nan))


class Model(nn.Module):
    """Dropout in the features shows the mode, the reduction scales one channel away from the others."""

    def __init__(self):
        super().__init__()
        self.features = nn.Dropout(0.9)
        self.head = SimpleNamespace(reduction=lambda x: x * torch.tensor([10.0, 1.0])[:, None, None])


def two_channels(first, second):
    return torch.tensor([[first, -first, first, -first], [second, second, -second, -second]]).reshape(1, 2, 2, 2)


def test_median_over_images_after_the_reduction_in_evaluation_mode():
    """Eigenvalues 100 a^2 and b^2 of channels with the values a and b."""
    model = Model().train()
    batches = [torch.cat([two_channels(1.0, 1.0), two_channels(2.0, 1.0)]), two_channels(3.0, 1.0)]
    assert condition_number(model, batches) == pytest.approx(400)
    assert model.training and model.features.training
    assert condition_number(model, batches[:1]) == pytest.approx(100), "of an even number the lower"
    model.eval()
    condition_number(model, batches)
    assert not model.training


def test_mode_comes_back_after_a_fault():
    model = Model().train()
    with pytest.raises(NonFiniteError):
        condition_number(model, [two_channels(math.inf, 1.0)])
    assert model.training
