"""Spectra that break textbook gradients: constant, zero, repeated and rank-deficient maps."""

import pytest
import torch

import gcp
from gcp.errors import NonFiniteError, ShapeError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("side", ["channel", "sample"])
def test_constant_map(covariance_root, output_and_gradient, dtype, precision, side):
    """Every channel constant, the constants all different: exactly zero, not the root of the rounding."""
    for d, H, W in [(3, 7, 7), (8, 2, 3), (5, 9, 11), (2, 30, 30)]:
        if side == "sample" and H * W > 49:
            continue
        levels = torch.rand(2, d, 1, 1, generator=torch.Generator().manual_seed(d), dtype=torch.float64)
        for scale in (1e-3, 0.3, 1e3):
            x = (scale * levels.to(dtype)).expand(2, d, H, W)
            out, gradient = output_and_gradient(covariance_root(d, side=side, precision=precision), x)
            assert not out.any(), (d, H, W, scale)
            assert not gradient.any(), (d, H, W, scale)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_zero_input(any_head, output_and_gradient, dtype):
    out, gradient = output_and_gradient(any_head(4), torch.zeros(2, 4, 3, 3, dtype=dtype))
    assert out.isfinite().all() and gradient.isfinite().all()
    if any_head.name == "log_euclidean":
        return
    if any_head.takes("side") or any_head.name in ("average", "covariance"):
        assert not out.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_published_form_stays_finite_on_a_constant_map(published_head, output_and_gradient, dtype):
    x = torch.full((2, 4, 3, 3), 0.7, dtype=dtype)
    out, gradient = output_and_gradient(published_head(4, form="published"), x)
    assert out.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("side", ["channel", "sample"])
def test_repeated_eigenvalues(root_head, output_and_gradient, precision, side):
    """Orthogonal rows: the covariance is the identity."""
    hadamard = torch.tensor([[1.0, 1], [1, -1]])
    for _ in range(2):
        hadamard = torch.kron(hadamard, torch.tensor([[1.0, 1], [1, -1]]))
    x = hadamard[1:5].reshape(1, 4, 2, 4)
    for dtype in (torch.float32, torch.float64):
        out, gradient = output_and_gradient(root_head(4, side=side, precision=precision), x.to(dtype))
        assert out.isfinite().all() and gradient.isfinite().all()
        assert float(gradient.norm()) < 10
        if root_head.name in ("svd_exact", "svd_pade", "polar_express"):
            identity = torch.eye(4)[torch.triu_indices(4, 4).unbind()]
            torch.testing.assert_close(out[0].float(), identity, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rank_deficient_is_finite(root_head, features, output_and_gradient, dtype, side):
    x = features(3, 6, 3, 3)
    x[0, :3] = 0.5
    x[1, 1:3] = x[1, :1]
    x[2, :, 1:] = x[2, :, :1]
    out, gradient = output_and_gradient(root_head(6, side=side), x.to(dtype))
    assert out.isfinite().all() and gradient.isfinite().all()
    assert float(gradient.norm()) < 1e3
    # a constant channel has neither a variance nor, by symmetry, a gradient
    if root_head.name in ("svd_exact", "svd_pade", "newton_schulz", "polar_express", "svd_taylor"):
        rows, columns = torch.triu_indices(6, 6)
        assert float(out[0, (rows < 3) | (columns < 3)].abs().max()) < 1e-5


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e5])
@pytest.mark.parametrize("shape", [(2, 4, 4, 4), (2, 12, 2, 3)])
def test_scale(homogeneous_root, features, output_and_gradient, relative, shape, scale):
    """Q(s X) = s Q(X), and the gradient does not depend on s; nothing may under- or overflow in float32."""
    x = features(*shape, dtype=torch.float32)
    head = homogeneous_root(shape[1], precision="float32")
    out, gradient = output_and_gradient(head, x)
    scaled, scaled_gradient = output_and_gradient(head, scale * x)
    assert relative(scaled / scale, out) < 1e-4
    assert relative(scaled_gradient, gradient) < 1e-3


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-17, 1e-10, 1e10, 1e16, 1e20, 1e30])
@pytest.mark.parametrize(("shape", "side"), [((2, 4, 4, 4), "channel"), ((2, 12, 2, 3), "sample")])
def test_scales_whose_squares_float32_does_not_hold(
    homogeneous_root, features, output_and_gradient, relative, shape, side, scale
):
    """As at unit scale, where squares over- or underflow; the maps of a batch have scales of their own."""
    x = features(*shape, dtype=torch.float32)
    scales = torch.tensor([scale, 1.0])
    head = homogeneous_root(shape[1], precision="float32", side=side)
    out, gradient = output_and_gradient(head, x)
    scaled, scaled_gradient = output_and_gradient(head, scales[:, None, None, None] * x)
    assert relative(scaled / scales[:, None], out) < 1e-4
    assert relative(scaled_gradient, gradient) < 1e-3


@pytest.mark.parametrize("scale", [1e-22, 1e20])
def test_default_precision_at_any_scale(root_head, features, output_and_gradient, scale):
    x = scale * features(2, 6, 3, 3, dtype=torch.float32)
    out, gradient = output_and_gradient(root_head(6), x)
    assert out.isfinite().all() and out.any() and gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-17, 1e-10, 1e10, 1e16, 1e20, 1e30])
@pytest.mark.parametrize(("shape", "side"), [((2, 4, 4, 4), "channel"), ((2, 12, 2, 3), "sample")])
def test_heads_with_a_scale_of_their_own_at_any_scale(
    own_scale_root, features, output_and_gradient, relative, shape, side, scale
):
    """As in float64, whose range holds the squares of all float32 features."""
    x = features(*shape, dtype=torch.float32) * torch.tensor([scale, 1.0])[:, None, None, None]
    out, gradient = output_and_gradient(own_scale_root(shape[1], precision="float32", side=side), x)
    expected, slope = output_and_gradient(own_scale_root(shape[1], precision="float64", side=side), x)
    for i in range(2):
        assert relative(out[i], expected[i]) < 1e-4
        assert relative(gradient[i], slope[i]) < 1e-3


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-10, 1e10, 3e18])
def test_covariance_at_any_scale(features, output_and_gradient, relative, scale):
    """Its gradient is linear in the features where its output underflows or comes near the largest float32."""
    x, head = features(2, 4, 5, 5, dtype=torch.float32), gcp.create_head("covariance", 4)
    out, gradient = output_and_gradient(head, x)
    scaled, scaled_gradient = output_and_gradient(head, scale * x)
    assert relative(scaled.double() / scale**2, out) < 1e-4 or scale < 1e-18
    assert relative(scaled_gradient.double() / scale, gradient) < 1e-5


def test_output_beyond_float32_is_an_error(features):
    """The covariance of features of 1e20 is 1e40; a root, which is 1e20 again, is computed."""
    x = features(3, 4, 3, 3, dtype=torch.float32) * torch.tensor([1, 1e20, 1])[:, None, None, None]
    for name, options in (("covariance", {}), ("power", {"exponent": 2.0})):
        with pytest.raises(NonFiniteError, match=r"float32.*sample 1"):
            gcp.create_head(name, 4, **options)(x)


def test_published_form_names_features_beyond_its_precision(published_head, features):
    """It keeps the published clamp of eigenvalues, so features keep their scale."""
    with pytest.raises(NonFiniteError, match=r"published.*precision='float64'.*sample 0"):
        published_head(4, form="published", precision="float32")(1e20 * features(2, 4, 3, 3, dtype=torch.float32))
    out = published_head(4, form="published")(1e20 * features(2, 4, 3, 3, dtype=torch.float32))
    assert out.isfinite().all() and out.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_features_raise(any_head, features, bad):
    x = features(3, 4, 3, 3)
    x[1, 2, 0, 0] = bad
    with pytest.raises(NonFiniteError, match="sample 1 of the batch hold inf or NaN"):
        any_head(4)(x)
    assert not any_head(4).nonfinite


def test_one_position(any_head):
    """A 1x1 map has no covariance; first-order pooling and whatever does not centre take it."""
    head = any_head(4)
    x = torch.rand(2, 4, 1, 1)
    if head.least_samples == 1:
        assert head(x).shape == (2, head.out_features)
    else:
        with pytest.raises(ShapeError, match=r"1x1.*larger.*stride.*'average'.*'bilinear'"):
            head(x)


@pytest.mark.parametrize("shape", [(4, 3, 3), (1, 2, 4, 3, 3)])
def test_wrong_number_of_dimensions(any_head, shape):
    with pytest.raises(ShapeError, match=r"feature map \(B, C, H, W\) is needed"):
        any_head(4)(torch.rand(shape))


def test_wrong_number_of_channels(any_head):
    """out_features would not be what the classifier was built for."""
    with pytest.raises(ShapeError, match=r"4.*5|5.*4"):
        any_head(4)(torch.rand(2, 5, 3, 3))


def test_empty_map(root_head):
    with pytest.raises(ShapeError, match="the feature map is empty"):
        root_head(4)(torch.rand(2, 4, 0, 3))


def test_functional_form_names_non_finite_features(features):
    x = features(2, 4, 3, 3)
    x[0, 0, 0, 0] = float("nan")
    for solver in ("eig", "newton_schulz"):
        with pytest.raises(NonFiniteError):
            gcp.covariance_sqrt(x, solver=solver)
