"""Every head: which dtype goes in, what it computes in, what comes out."""

import pytest
import torch

import gcp


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [None, 4])
def test_output_dtype(any_head, features, dtype, dim):
    head = any_head(6, dim=dim)
    if dtype == torch.float64:
        head = head.double()
    x = features(2, 6, 3, 3, dtype=dtype).requires_grad_()
    out = head(x)
    assert out.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    out.sum().backward()
    assert x.grad.dtype == dtype


def test_half_precision_features_lose_nothing_more(any_head, features, relative):
    """bfloat16 features are the float32 features that they represent."""
    x = features(2, 5, 4, 4, dtype=torch.bfloat16)
    head = any_head(5)
    assert torch.equal(head(x), head(x.float()))


@pytest.mark.parametrize("precision", [None, "float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 12, 2, 3)])
def test_float64_features_are_computed_in_float64(any_head, features, output_and_gradient, relative, precision, shape):
    if not any_head.takes("precision"):
        precision = None
    x = features(*shape)
    out, gradient = output_and_gradient(any_head(shape[1], precision=precision), x)
    every = "float64" if any_head.takes("precision") else None
    expected, expected_gradient = output_and_gradient(any_head(shape[1], precision=every).double(), x)
    assert relative(out, expected) < 1e-10
    assert relative(gradient, expected_gradient) < 1e-10


def test_float64_precision_on_float32_features(any_head, features, output_and_gradient, relative):
    """precision='float64' leaves only the rounding of the output and of the feature gradient."""
    if not any_head.takes("precision"):
        return
    x = features(2, 5, 4, 4, dtype=torch.float32)
    head = any_head(5, precision="float64")
    out, gradient = output_and_gradient(head, x)
    expected, expected_gradient = output_and_gradient(head, x.double())
    assert out.dtype == torch.float32
    assert relative(out, expected) < 1e-7
    assert relative(gradient, expected_gradient) < 3e-7


def test_eigen_heads_default_to_float64(eigen_head, features):
    x = features(2, 5, 4, 4, dtype=torch.float32)
    assert torch.equal(eigen_head(5)(x), eigen_head(5, precision="float64")(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_changes_nothing(any_head, features, output_and_gradient, dtype):
    x = features(2, 5, 4, 4, dtype=dtype)
    head = any_head(5)
    out, gradient = output_and_gradient(head, x)
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = head(leaf)
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out.dtype)
    inside_gradient = torch.autograd.grad(inside, leaf, g)[0]
    assert inside.dtype == out.dtype
    assert torch.equal(inside, out) and torch.equal(inside_gradient, gradient)


@pytest.mark.parametrize("name", ["average", "svd_pade"])
def test_reduction_never_lowers_the_precision(name, features):
    """A float32 reduction must not turn float64 features into float32 in silence: float64 out, or an error."""
    x = features(2, 6, 3, 3)
    head = gcp.create_head(name, 6, dim=4)
    try:
        out = head(x)
    except gcp.errors.ShapeError:
        return
    assert out.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_whole_numbers_are_an_error(root_head, dtype):
    with pytest.raises(gcp.errors.ShapeError, match=r"floating-point values are needed.*\.float\(\)"):
        root_head(3)(torch.ones(2, 3, 4, 4, dtype=dtype))
