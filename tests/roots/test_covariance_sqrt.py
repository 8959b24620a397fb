"""The functional form against numpy: exact root and gradient on full and deficient ranks."""

import pytest
import torch

import gcp
from gcp.errors import OptionError, UnknownNameError
from gcp.heads import create_head
from gcp.kernels.triangle import unpack


@pytest.mark.parametrize("side", ["channel", "sample", "auto"])
@pytest.mark.parametrize("rule", ["exact", "pade", "original", "truncate"])
@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 16, 3, 3), (2, 9, 3, 3), (1, 1, 2, 2)])
def test_exact_rules(exact, shape, rule, side):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
    G = torch.randn(shape[0], shape[1], shape[1], generator=generator, dtype=torch.float64)
    Q = gcp.covariance_sqrt(x, rule=rule, side=side)
    (gradient,) = torch.autograd.grad(Q, x, G)
    expected, expected_gradient = exact(x, G)
    assert float((Q - expected).norm() / expected.norm()) < 1e-12
    assert float((gradient - expected_gradient).norm() / expected_gradient.norm()) < 1e-11


@pytest.mark.parametrize(("condition", "limit"), [(1e2, 1e-5), (1e4, 3e-4), (1e5, 3e-3)])
@pytest.mark.parametrize("side", ["channel", "sample"])
def test_eigen_float32_is_what_the_documentation_says(features_of, exact, condition, limit, side):
    """Gradient error 8e-5 at condition number 1e4 and 1e-3 at 1e5 for d = 256; less for fewer channels."""
    d, width = (64, 14) if side == "channel" else (128, 7)
    spectrum = torch.logspace(0, -torch.tensor(condition).log10(), min(d, width * width - 1))
    x = features_of(d, width, spectrum).requires_grad_()
    G = torch.randn(1, d, d, generator=torch.Generator().manual_seed(1))
    Q = gcp.covariance_sqrt(x, precision="float32", side=side)
    (gradient,) = torch.autograd.grad(Q, x, G)
    expected, expected_gradient = exact(x, G)
    assert float((Q - expected).norm() / expected.norm()) < 1e-4
    assert float((gradient - expected_gradient).norm() / expected_gradient.norm()) < limit


@pytest.mark.parametrize("side", ["channel", "sample"])
def test_scaling_branch(side):
    """Q (1 + s), s = sqrt(sum_i l_i exp(-2 l_i)), against autograd through a full-rank decomposition."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 4, 4, generator=generator, dtype=torch.float64).requires_grad_()
    G = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
    X = x.flatten(2)
    Xc = X - X.mean(2, keepdim=True)
    spectrum, V = torch.linalg.eigh(Xc @ Xc.mT / 16)
    s = (spectrum * torch.exp(-2 * spectrum)).sum(1).sqrt()
    expected = (V * spectrum.sqrt()[:, None, :]) @ V.mT * (1 + s)[:, None, None]
    (expected_gradient,) = torch.autograd.grad(expected, x, G)
    Q = unpack(create_head("seb", 4, side=side)(x))
    (gradient,) = torch.autograd.grad(Q, x, G)
    assert float((Q - expected).norm() / expected.norm()) < 1e-13
    assert float((gradient - expected_gradient).norm() / expected_gradient.norm()) < 1e-11


@pytest.mark.parametrize("rule", [str(rule) for rule in gcp.gradients.RULES])
@pytest.mark.parametrize("shape", [(1, 4, 4, 4), (1, 12, 2, 3)])
def test_every_rule_is_its_weight(rule, shape):
    """dL/dXc = (2/M) V (W o S) V^T Xc with W from spectral_weight on the full channel side: a second way through."""
    if rule in ("newton", "top_n"):
        return  # against unrolled autograd and the formula in tests/gradients/test_unrolled.py
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    G = torch.randn(1, shape[1], shape[1], generator=generator, dtype=torch.float64)
    X = x.flatten(2)
    Xc = X - X.mean(2, keepdim=True)
    spectrum, V = torch.linalg.eigh(Xc @ Xc.mT / X.shape[2])
    spectrum = spectrum.where(spectrum > 1e-13 * spectrum.amax(), 0)
    S = V.mT @ ((G + G.mT) / 2) @ V
    expected = 2 / X.shape[2] * V @ (gcp.spectral_weight(spectrum, rule=rule) * S) @ V.mT @ Xc
    leaf = x.requires_grad_()
    (gradient,) = torch.autograd.grad(gcp.covariance_sqrt(leaf, rule=rule), leaf, G)
    assert float((gradient.flatten(2) - expected).norm() / expected.norm()) < 1e-10


def test_options_and_names():
    x = torch.rand(1, 3, 2, 2)
    with pytest.raises(
        OptionError, match=r"side .*'channels'; allowed: auto, channel, sample\b.*Did you mean 'channel'"
    ):
        gcp.covariance_sqrt(x, side="channels")
    with pytest.raises(OptionError, match=r"precision .*'float16'; allowed: float32, float64, .*null"):
        gcp.covariance_sqrt(x, precision="float16")
    with pytest.raises(OptionError, match="form='published' works on the channel side"):
        gcp.covariance_sqrt(x, rule="pade", form="published", side="sample")
    with pytest.raises(UnknownNameError, match="unknown rule 'svd_pade'"):
        gcp.covariance_sqrt(x, rule="svd_pade")
