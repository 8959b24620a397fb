"""Where layers start: Haar-distributed, at the identity, at a given matrix."""

import pytest
import torch
from torch import nn

from gcp.errors import OptionError, ShapeError
from gcp.layers import (
    Orthogonal,
    OrthogonalConv1x1,
    OrthogonalLinear,
    SVDConv1x1,
    SVDLinear,
    SymmetricLinear,
    householder_apply,
    nearest_orthonormal,
)
from gcp.layers.reflectors import haar, reflector


def random_orthogonal(d, sign, dtype=torch.float64):
    Q = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64))[0]
    Q[:, 0] *= sign * torch.linalg.det(Q).sign()
    return Q.to(dtype)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("d", [1, 2, 3, 31, 32, 33, 70])
def test_orthogonal_of_a_matrix(d, sign):
    Q = random_orthogonal(d, sign)
    layer = Orthogonal.from_matrix(Q)
    assert layer.frame.vectors.dtype == torch.float64
    assert (layer.weight - Q).abs().max() < 1e-13
    assert layer.slogdet()[0] == sign and layer.slogdet()[1] == 0
    assert (Orthogonal.from_matrix(Q.float()).weight - Q).abs().max() < 3e-6


@pytest.mark.parametrize(
    "Q",
    [
        torch.eye(5),
        -torch.eye(5),
        torch.eye(5).flip(0),
        torch.eye(5)[[0, 2, 1, 3, 4]],
        torch.diag(torch.tensor([1.0, -1, 1, -1, 1])),
    ],
)
def test_signed_permutations(Q):
    layer = Orthogonal.from_matrix(Q)
    assert torch.allclose(layer.weight, Q, atol=1e-6)
    assert layer.slogdet()[0] == torch.linalg.det(Q)


@pytest.mark.parametrize("shape", [(70, 40), (40, 70), (5, 1), (1, 5)])
def test_rectangular_of_a_matrix(shape):
    W = nearest_orthonormal(torch.randn(shape, dtype=torch.float64))
    bias = torch.randn(shape[0], dtype=torch.float64)
    layer = OrthogonalLinear.from_matrix(W, bias)
    assert torch.allclose(layer.weight, W, atol=1e-13) and torch.equal(layer.bias, bias)
    conv = OrthogonalConv1x1.from_matrix(W[:, :, None, None])
    assert torch.allclose(conv.weight, W[:, :, None, None], atol=1e-13) and conv.bias is None


def test_matrices_that_are_not_orthonormal_are_refused():
    with pytest.raises(ShapeError, match=r"not orthonormal.*nearest_orthonormal"):
        Orthogonal.from_matrix(torch.eye(3) * 1.01)
    with pytest.raises(ShapeError, match="not orthonormal"):
        Orthogonal.from_matrix(torch.full((3, 3), float("nan")))
    with pytest.raises(ShapeError, match=r"square .*\(d, d\) .*\(3, 2\)"):
        Orthogonal.from_matrix(torch.eye(3)[:, :2])
    with pytest.raises(ShapeError, match=r"\(out, in\) or \(out, in, 1, 1\) is needed"):
        OrthogonalConv1x1.from_matrix(torch.ones(2, 2, 3, 3))
    with pytest.raises(ShapeError, match=r"torch.int64.*floating-point"):
        Orthogonal.from_matrix(torch.eye(3).long())
    with pytest.raises(OptionError, match="has no bias; use OrthogonalLinear"):
        Orthogonal.from_matrix(torch.eye(3), torch.ones(3))
    with pytest.raises(OptionError, match=r"\b2 reflectors .*\b3 columns.*reflectors=3"):
        Orthogonal(3, reflectors=2).frame.assign(torch.eye(3))


def test_nearest_orthonormal_beats_qr():
    A = torch.randn(6, 4, dtype=torch.float64)
    ours, other = nearest_orthonormal(A), torch.linalg.qr(A)[0]
    assert torch.allclose(ours.mT @ ours, torch.eye(4, dtype=torch.float64), atol=1e-13)
    assert (ours - A).norm() < min((other - A).norm(), (other + A).norm())


def test_reflector_takes_a_vector_to_the_first_axis():
    for x in ([3.0, 4.0], [-3.0, 4.0], [1.0, 1e-12], [-1.0, 1e-12], [2.0, 0.0], [-2.0, 0.0], [0.0, 0.0], [0.0, 1.0]):
        x = torch.tensor(x, dtype=torch.float64)
        v = reflector(x)
        expected = torch.stack((x.norm(), x.new_zeros(())))
        assert torch.allclose(x - 2 * v * (v @ x), expected, atol=1e-15)


@pytest.mark.parametrize(("k", "d"), [(3, 3), (2, 3), (5, 3), (1, 1)])
def test_haar_moments(k, d):
    """First, second and fourth moments of entries, and no correlation: E w = 0, E w^2 = 1/d, E w^4 = 3/(d(d+2))."""
    generator, count = torch.Generator().manual_seed(0), 1000
    V = torch.stack([haar(k, d, generator) for _ in range(count)])
    W = householder_apply(V, torch.eye(d, min(k, d))).double()
    slack = 5 * count**-0.5
    assert W.mean(0).abs().max() < slack
    assert (W.square().mean(0) - 1 / d).abs().max() < slack
    assert (W.pow(4).mean(0) - 3 / (d * (d + 2))).abs().max() < slack
    if k >= d:
        assert abs(torch.linalg.det(W).mean()) < slack  # both determinants


@pytest.mark.parametrize("reflectors", [None, 1, 2, 7])
@pytest.mark.parametrize("size", [(6, 6), (6, 4), (4, 6)])
def test_identity(size, reflectors):
    layer = OrthogonalLinear(*size, reflectors=reflectors, init="identity")
    assert (layer.weight - torch.eye(size[1], size[0])).abs().max() < 2e-6
    layer(torch.randn(3, size[0])).sin().sum().backward()
    vectors = layer.frame.vectors
    alive = len(vectors) - len(vectors) % 2
    assert vectors.grad[:alive].abs().sum(1).min() > 1e-6 if alive else not vectors.any()


def test_the_start_follows_the_seed_and_can_be_drawn_again():
    torch.manual_seed(3)
    first, second = Orthogonal(4), Orthogonal(4)
    torch.manual_seed(3)
    assert torch.equal(Orthogonal(4).weight, first.weight) and not torch.equal(first.weight, second.weight)
    torch.manual_seed(3)
    second.frame.reset_parameters()
    assert torch.equal(second.weight, first.weight)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(5, 5), (7, 4), (4, 7)])
@pytest.mark.parametrize("spectrum", ["exp", "softplus", "free"])
def test_svd_of_a_linear_layer(size, bias, spectrum):
    linear, x = nn.Linear(*size, bias=bias).double(), torch.randn(3, size[0], dtype=torch.float64)
    layer = SVDLinear.from_linear(linear, spectrum)
    assert torch.allclose(layer(x), linear(x), atol=1e-12)
    expected = torch.linalg.svdvals(linear.weight)
    assert torch.allclose(layer.singular_values.abs().sort(descending=True).values, expected)


def test_svd_of_a_convolution():
    conv, x = nn.Conv2d(5, 7, 1), torch.randn(2, 5, 3, 3)
    assert torch.allclose(SVDConv1x1.from_conv(conv)(x), conv(x), atol=1e-5)
    for bad in (
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 1, stride=2),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Conv2d(4, 4, 1, padding=1),
    ):
        with pytest.raises(ShapeError, match=r"1x1 .*stride 1\b.*no padding .*one group"):
            SVDConv1x1.from_conv(bad)


def test_singular_values_out_of_bounds_are_refused():
    linear = nn.Linear(3, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.diag(torch.tensor([2.0, 1.0, 0.5])))
    with pytest.raises(OptionError, match=r"width=0\.5\b.*\b0\.5 .*\b1\.5\b.*\b0\.5 to 2\b"):
        SVDLinear.from_linear(linear, "box")
    assert SVDLinear.from_linear(linear, "box", width=1.5).cond().item() == pytest.approx(4)
    nn.init.zeros_(linear.weight)
    with pytest.raises(OptionError, match="the matrix has values from 0 to 0"):
        SVDLinear.from_linear(linear)


def test_symmetric_of_a_matrix():
    A = torch.randn(5, 5, dtype=torch.float64)
    A = A + A.mT
    bias = torch.randn(5, dtype=torch.float64)
    layer = SymmetricLinear.from_matrix(A, bias)
    assert torch.allclose(layer.weight, A, atol=1e-12) and torch.equal(layer.bias, bias)
    with pytest.raises(ShapeError, match="not symmetric"):
        SymmetricLinear.from_matrix(torch.randn(3, 3))
    with pytest.raises(OptionError, match=r"Exp\(limit=10.0\) holds values within"):
        SymmetricLinear.from_matrix(-torch.eye(3), spectrum="exp")
