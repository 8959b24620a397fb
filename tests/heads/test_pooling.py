"""Heads without a root against their definitions, and what the reduction does."""

import pytest
import torch
from torch import nn

import gcp
from gcp.errors import ShapeError


def features(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def test_average():
    x = features(2, 5, 3, 4)
    torch.testing.assert_close(gcp.create_head("average", 5)(x), x.flatten(2).sum(2) / 12)


@pytest.mark.parametrize("p", [1.0, 2.5, 30.0])
def test_gem(p):
    x = features(2, 5, 3, 4).abs().requires_grad_()
    head = gcp.create_head("gem", 5, p=p).double()
    out, expected = head(x), x.pow(p).mean((2, 3)).pow(1 / p)
    torch.testing.assert_close(out, expected)
    if p == 1:
        torch.testing.assert_close(out, gcp.create_head("average", 5)(x))
    g = features(2, 5)
    torch.testing.assert_close(torch.autograd.grad(out, x, g)[0], torch.autograd.grad(expected, x, g)[0])
    assert torch.autograd.gradcheck(lambda p: torch.func.functional_call(head, {"p": p}, (x.detach(),)), head.p)


def test_gem_at_any_scale_and_with_a_fixed_exponent():
    x = features(2, 5, 3, 4, dtype=torch.float32).abs() + 0.1
    head = gcp.create_head("gem", 5, learn_p=False)
    assert not list(head.parameters()) and head.state_dict()["p"] == 3
    for scale in (1e3, 1e20, 1e30):
        leaf = (scale * x).requires_grad_()
        out = head(leaf)
        torch.testing.assert_close(out / scale, head(x))
        assert torch.autograd.grad(out.sum(), leaf)[0].isfinite().all()
    assert torch.equal(head(torch.zeros(1, 5, 2, 2)), torch.full((1, 5), 1e-6))


@pytest.mark.parametrize("p, held", [(0.0, 0.1), (-8.0, 0.1), (1e4, 100.0), (-1e30, 0.1)])
def test_gem_with_an_exponent_that_left_its_range(p, held):
    x = features(2, 5, 3, 4, dtype=torch.float32).abs().requires_grad_()
    head, inside = gcp.create_head("gem", 5), gcp.create_head("gem", 5, p=held)
    with torch.no_grad():
        head.p.fill_(p)
    out, expected = head(x), inside(x)
    assert torch.equal(out, expected)
    gradients = torch.autograd.grad(out.sum(), [x, head.p])
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.sum(), [x, inside.p]))
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)


def test_max_and_the_mean_of_both():
    x = features(2, 5, 3, 4)
    largest, mean = x.flatten(2).max(2).values, x.mean((2, 3))
    assert torch.equal(gcp.create_head("max", 5)(x), largest)
    torch.testing.assert_close(gcp.create_head("avg_max", 5)(x), (largest + mean) / 2)


def test_covariance():
    x = features(2, 4, 3, 3)
    rows, columns = torch.triu_indices(4, 4)
    expected = torch.stack([torch.cov(image.flatten(1), correction=0)[rows, columns] for image in x])
    torch.testing.assert_close(gcp.create_head("covariance", 4)(x), expected, rtol=1e-13, atol=1e-14)


def test_bilinear():
    x = features(2, 4, 3, 3)
    X = x.flatten(2)
    M = X @ X.mT / 9
    expected = (M.sign() * (M.abs() + 1e-8).sqrt()).flatten(1)
    expected = expected / expected.square().sum(1, keepdim=True).sqrt()
    got = gcp.create_head("bilinear", 4)(x)
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(2, dtype=torch.float64))


def test_compact_bilinear_approximates_bilinear_products():
    """Without the root, <sketch, sketch> is <X X^T, Y Y^T> on average; here one draw of many buckets, to 20 %."""
    from gcp.heads.bilinear import hashes, tensor_sketch

    X = features(2, 9, 8).abs()
    buckets, signs = hashes(8, 4096, 0)
    first, second = tensor_sketch(X, buckets, signs, 4096)
    expected = ((X[0].T @ X[0]) * (X[1].T @ X[1])).sum()
    assert float((first * second).sum() / expected) == pytest.approx(1, abs=0.2)


def test_compact_bilinear_defaults():
    head = gcp.create_head("compact_bilinear", 6)
    assert head.out_features == 8192
    out = head(features(2, 6, 3, 3, dtype=torch.float32))
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2))


def test_reduction_is_convolution_norm_relu():
    head = gcp.create_head("svd_pade", 6, dim=3)
    assert [type(module) for module in head.reduction] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert isinstance(gcp.create_head("svd_pade", 6).reduction, nn.Identity)
    x = features(4, 6, 3, 3, dtype=torch.float32)
    reduced = head.eval().reduction(x)
    assert reduced.shape == (4, 3, 3, 3) and float(reduced.min()) >= 0
    assert torch.equal(head(x), gcp.create_head("svd_pade", 3)(reduced))


def test_reduction_takes_half_precision_features():
    """A backbone under autocast hands over bfloat16, the reduction outside of it is float32."""
    head = gcp.create_head("svd_pade", 6, dim=3).eval()
    x = features(4, 6, 3, 3, dtype=torch.bfloat16)
    assert torch.equal(head(x), head(x.float()))


def test_reduction_learns():
    head = gcp.create_head("newton_schulz", 6, dim=3)
    head(features(4, 6, 3, 3, dtype=torch.float32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_root_head_is_the_triangle_of_the_functional_form():
    x = features(2, 4, 3, 3)
    rows, columns = torch.triu_indices(4, 4)
    for name, options in [
        ("svd_taylor", {"rule": "taylor"}),
        ("newton_schulz", {"solver": "newton_schulz"}),
        ("polar_express", {"solver": "polar_express"}),
        ("mpa_lyapunov", {"solver": "mpa"}),
    ]:
        assert torch.equal(gcp.create_head(name, 4)(x), gcp.covariance_sqrt(x, **options)[:, rows, columns])


def test_repr_tells_the_sizes():
    assert "6 channels -> 10 features" in repr(gcp.create_head("svd_pade", 6, dim=4))


@pytest.mark.parametrize(("shape", "dim"), [((2, 4, 3, 3), None), ((2, 4, 3, 3), 3)])
def test_flags_by_module_name(shape, dim):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), gcp.create_head("svd_pade", 4, dim=dim))
    flags = gcp.heads.nonfinite(model)
    assert list(flags) == ["1"] and flags["1"].dtype == torch.bool and not flags["1"]


@pytest.mark.parametrize("name", ["bilinear", "compact_bilinear"])
def test_bilinear_of_features_whose_squares_overflow(name):
    head = gcp.create_head(name, 4)
    x = features(2, 4, 3, 3, dtype=torch.float32)
    leaf = (1e25 * x).requires_grad_()
    out = head(leaf)
    (gradient,) = torch.autograd.grad(out.sum(), leaf)
    assert gradient.isfinite().all()
    torch.testing.assert_close(out, head(1e6 * x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("call", [gcp.create_head("average", 2), gcp.create_head("svd_pade", 2), gcp.covariance_sqrt])
def test_what_is_no_real_tensor(call):
    with pytest.raises(ShapeError, match=r"tensor.* list.*torch\.as_tensor"):
        call([[1.0, 2.0]])
    with pytest.raises(ShapeError, match=r"real.*torch\.complex64.*\.real"):
        call(torch.ones(1, 2, 3, 3, dtype=torch.complex64))
    with pytest.raises(ShapeError, match=r"a matrix must be"):
        gcp.matrix_sqrt(None)
    with pytest.raises(ShapeError, match=r"eigenvalues must be real"):
        gcp.spectral_weight(torch.ones(1, 2, dtype=torch.complex64))
