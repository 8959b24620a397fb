"""The spectrum and what sums it up, against numpy on covariances taken by hand."""

import math

import numpy as np
import pytest
import torch

from gcp.errors import ShapeError
from gcp.ops.eigenvalues import conditions, covariance_eigenvalues, effective_ranks, ranks, smallest_gaps


def features(count, channels, side, dtype=torch.float64):
    generator = torch.Generator().manual_seed(channels + side)
    x = torch.randn(count, channels, side, side, generator=generator, dtype=torch.float64)
    return (x * torch.arange(1, channels + 1)[:, None, None] + 5).to(dtype)


@pytest.mark.parametrize(("channels", "side", "rank"), [(3, 4, 3), (16, 4, 15), (20, 3, 8), (1, 2, 1), (5, 2, 3)])
def test_eigenvalues_of_the_covariance(channels, side, rank):
    x = features(4, channels, side)
    found = covariance_eigenvalues(x)
    assert found.dtype == torch.float64 and found.shape == (4, min(channels, side**2))
    for eigenvalues, sample in zip(found.numpy(), x.flatten(2).numpy(), strict=True):
        expected = np.linalg.eigvalsh(np.atleast_2d(np.cov(sample, bias=True)))
        assert np.allclose(eigenvalues[-rank:], expected[-rank:], rtol=1e-9)
        assert not eigenvalues[:-rank].any(), "exact zeros"
    assert ranks(found).tolist() == [rank] * 4


def test_half_precision_and_autocast_make_no_difference():
    x = features(2, 6, 4, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(covariance_eigenvalues(x), covariance_eigenvalues(x.double()))


def test_one_position_has_no_covariance():
    with pytest.raises(ShapeError, match="at least two samples"):
        covariance_eigenvalues(torch.ones(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("eigenvalues", "condition", "effective", "gap"),
    [
        ([2.0, 2.0, 2.0, 2.0], 1, 4, 0),
        ([0.0, 0.0, 3.0], 1, 1, math.inf),
        ([0.0, 1.0, 1.5, 4.0], 4, None, 0.125),
        ([1e-9, 1.0], 1e9, None, 1 - 1e-9),
        ([7.0], 1, 1, math.inf),
        ([0.0, 0.0], math.inf, math.nan, math.inf),
    ],
)
def test_what_sums_a_spectrum_up(eigenvalues, condition, effective, gap):
    given = torch.tensor([eigenvalues], dtype=torch.float64)
    if effective is None:  # exp of the entropy, by the definition
        shares = np.array([value for value in eigenvalues if value]) / sum(eigenvalues)
        effective = math.exp(-(shares * np.log(shares)).sum())
    assert conditions(given).item() == pytest.approx(condition)
    assert effective_ranks(given).item() == pytest.approx(effective, nan_ok=True)
    assert smallest_gaps(given).item() == pytest.approx(gap, rel=1e-6)
