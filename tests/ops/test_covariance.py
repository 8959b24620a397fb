"""Covariance of a feature map, with its gradient, against numpy and finite differences."""

import numpy
import pytest
import torch

from gcp.errors import ShapeError
from gcp.ops.covariance import centre, covariance, gram, noise_floor, samples


def features(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).add(2).to(dtype)


def test_against_numpy():
    x = features(3, 4, 3, 2)
    for got, image in zip(covariance(x), x, strict=True):
        expected = numpy.cov(image.flatten(1).numpy(), bias=True)
        numpy.testing.assert_allclose(got.numpy(), expected, rtol=1e-13, atol=1e-15)


def test_gradcheck():
    assert torch.autograd.gradcheck(covariance, features(2, 3, 2, 2).requires_grad_())


def test_gradient_of_an_asymmetric_upstream():
    x = features(2, 3, 2, 2)
    G = features(2, 3, 3)
    plain = x.clone().requires_grad_()
    X = plain.flatten(2)
    Xc = X - X.mean(2, keepdim=True)
    expected = torch.autograd.grad(Xc @ Xc.mT / 4, plain, G)[0]
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(covariance(leaf), leaf, G)[0], expected, rtol=1e-13, atol=1e-14)


def test_saves_the_features_only():
    x = features(2, 6, 4, 4).requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        covariance(x)
    assert saved[0].data_ptr() == x.data_ptr() and sum(t.numel() for t in saved[1:]) == len(x)  # and a flag a sample


def test_gram_has_the_eigenvalues_of_the_covariance():
    Xc = centre(features(1, 4, 2, 5), torch.float64)
    eigenvalues = torch.linalg.eigvalsh(gram(Xc))
    torch.testing.assert_close(eigenvalues[:, 6:], torch.linalg.eigvalsh(Xc @ Xc.mT / 10), rtol=1e-12, atol=0)
    assert float(eigenvalues[:, :6].abs().max()) < 1e-14


def test_centre_is_exact_to_the_mean():
    x = features(2, 3, 5, 5)
    assert float(centre(x, torch.float64).sum(2).abs().max()) < 1e-13
    assert centre(x.half(), torch.float32).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("H", "W"), [(1, 2), (7, 7), (13, 13), (56, 56), (112, 112)])
def test_noise_floor_covers_what_rounding_leaves(dtype, H, W):
    levels = torch.rand(4, 8, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    x = levels.expand(4, 8, H, W)
    assert bool((centre(x, dtype).square().mean(2).sum(1) <= noise_floor(x, dtype)).all())


def test_noise_floor_spares_true_variance():
    """A relative deviation of 1e-5 in float32 is signal."""
    x = torch.ones(1, 2, 4, 4)
    x[..., 0] += 1e-5
    assert float(centre(x, torch.float32).square().mean(2).sum(1)) > float(noise_floor(x, torch.float32))


def test_bad_shapes():
    with pytest.raises(ShapeError, match=r"\(B, C, H, W\) .*\(2, 3\)"):
        samples(torch.ones(2, 3))
    with pytest.raises(ShapeError, match="empty"):
        samples(torch.ones(2, 0, 3, 3))
    with pytest.raises(ShapeError, match=r"at least two samples, but the feature map is 1x1"):
        samples(torch.ones(2, 3, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_map_has_covariance_zero(dtype):
    """3.7 is no binary fraction: the mean of sixteen is not exactly 3.7, and what is left is not signal."""
    x = torch.full((2, 3, 4, 4), 3.7, dtype=dtype, requires_grad=True)
    P = covariance(x)
    P.sum().backward()
    assert not P.any() and not x.grad.any()
