"""Every head: sizes, layouts of memory, and an input that stays as it was."""

import pytest
import torch

import gcp


def expected_features(name, d):
    special = dict.fromkeys(("average", "max", "avg_max", "gem", "wide_average"), d) | {
        "bilinear": d * d,
        "compact_bilinear": 3,
        "low_rank_bilinear": 3,
        "cross_covariance": 2 * 2**2,
        "gaussian": (d + 1) * (d + 2) // 2,
    }
    return special.get(name, d * (d + 1) // 2)


def test_names():
    names = (
        "average covariance svd_exact svd_original svd_pade svd_taylor svd_pi svd_newton svd_trunc svd_topn "
        "newton_schulz polar_express halley mpa_lyapunov mtp_lyapunov seb bilinear compact_bilinear "
        "second_moment gaussian max avg_max gem wide_average power log_euclidean "
        "drop_cov max_singular isice low_rank_bilinear cross_covariance"
    )
    assert {str(name) for name in gcp.list_heads()} == set(names.split())
    assert sorted(gcp.list_heads("svd_p*")) == ["svd_pade", "svd_pi"]
    assert all(entry.summary for entry in gcp.list_heads())


@pytest.mark.parametrize("dim", [None, 4])
@pytest.mark.parametrize("shape", [(2, 6, 4, 5), (1, 6, 2, 2)])
def test_out_features(any_head, features, dim, shape):
    head = any_head(6, dim=dim)
    out = head(features(*shape, dtype=torch.float32))
    channels = 6 if dim is None else 10 if any_head.name == "wide_average" else dim
    assert head.out_features == expected_features(any_head.name, channels)
    assert out.shape == (shape[0], head.out_features)


@pytest.mark.parametrize("dim", [None, 1])
def test_one_channel(any_head, features, output_and_gradient, dim):
    C = 1 if dim is None else 3
    out, gradient = output_and_gradient(any_head(C, dim=dim).double(), features(2, C, 3, 3))
    assert out.shape == (2, expected_features(any_head.name, 1))
    assert out.isfinite().all() and gradient.isfinite().all()


def test_one_channel_is_the_standard_deviation(features, relative):
    x = features(3, 1, 4, 4)
    out = gcp.create_head("svd_exact", 1)(x)
    assert relative(out[:, 0], x.flatten(1).std(1, correction=0)) < 1e-14


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 9, 2, 3)])
def test_layout_does_not_matter(any_head, features, output_and_gradient, relative, shape):
    head = any_head(shape[1])
    x = features(*shape)
    out, gradient = output_and_gradient(head, x)
    wide = features(*shape[:3], 2 * shape[3])
    wide[..., ::2] = x
    for other in (x.contiguous(memory_format=torch.channels_last), wide[..., ::2], x.mT.contiguous().mT):
        assert not other.is_contiguous()
        leaf = other.detach().requires_grad_()
        result = head(leaf)
        g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        assert relative(result.detach(), out) < 1e-11
        assert relative(torch.autograd.grad(result, leaf, g)[0], gradient) < 1e-9


def test_input_is_not_modified(any_head, features, output_and_gradient):
    for dim in (None, 3):
        head = any_head(5, dim=dim).double()
        x = features(2, 5, 3, 3)
        before = x.clone()
        leaf = x.requires_grad_()
        head(leaf).square().sum().backward()
        assert torch.equal(leaf.detach(), before)


def test_batches_are_independent(any_head, features, output_and_gradient, relative):
    head, x = any_head(5), features(3, 5, 3, 3)
    out = head(x)
    for i in range(3):
        assert relative(head(x[i : i + 1]), out[i : i + 1]) < 1e-12


def test_empty_batch(any_head, features):
    head = any_head(4)
    x = features(0, 4, 3, 3).requires_grad_()
    out = head(x)
    assert out.shape == (0, head.out_features)
    out.sum().backward()
    assert x.grad.shape == x.shape


def test_published_init_of_the_reduction():
    """Kaiming normal by fan-out: standard deviation sqrt(2 / dim) for a 1x1 convolution."""
    torch.manual_seed(0)
    conv = gcp.create_head("svd_pade", 512, dim=128).reduction[0]
    assert conv.bias is None and conv.weight.shape == (128, 512, 1, 1)
    assert float(conv.weight.std()) == pytest.approx((2 / 128) ** 0.5, rel=0.02)
