"""Invertible 1x1 convolutions: the forms are one matrix, with the determinant and the inverse that it has."""

import math
from unittest import mock

import pytest
import torch
from torch.autograd import gradcheck

from gcp.errors import OptionError, ShapeError, UnknownNameError
from gcp.layers import InvertibleConv1x1
from gcp.layers.invertible import FORMS

EVERY = pytest.mark.parametrize("form", list(FORMS))


def some(form, channels=4, seed=0):
    """A layer in float64 with a matrix that is neither orthogonal nor symmetric, of negative determinant."""
    W = torch.randn(channels, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    W[0] *= -torch.linalg.det(W).sign()
    return InvertibleConv1x1.from_matrix(W, form), W


@EVERY
def test_is_a_convolution_by_its_matrix(form):
    layer, W = some(form)
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    y, _ = layer(x)
    torch.testing.assert_close(y, torch.einsum("oc,bchw->bohw", W, x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.matrix(), W, rtol=1e-12, atol=1e-12)


@EVERY
def test_log_determinant_is_that_of_the_jacobian(form):
    layer, _ = some(form)
    x = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    _, log_det = layer(x)
    assert log_det.shape == (2,)
    for sample, found in zip(x, log_det, strict=True):
        J = torch.autograd.functional.jacobian(lambda flat: layer(flat.view(1, 4, 2, 3))[0].flatten(), sample.flatten())
        assert abs(torch.linalg.slogdet(J)[1] - found) < 1e-10


@EVERY
def test_sign_of_the_determinant(form):
    layer, W = some(form)
    sign, logarithm = layer.slogdet()
    assert sign == torch.linalg.slogdet(W)[0] == -1
    torch.testing.assert_close(logarithm, torch.linalg.slogdet(W)[1])


@EVERY
@pytest.mark.parametrize("positions", [(1, 1), (4, 4)], ids=["by factors", "by the matrix"])
def test_gradients(form, positions):
    layer, _ = some(form, channels=3)
    names, values = zip(*layer.named_parameters(), strict=True)
    x = torch.randn(1, 3, *positions, dtype=torch.float64, requires_grad=True)

    def both(x, *parameters):
        y, log_det = torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))
        return y, log_det

    assert gradcheck(both, (x, *values))


@EVERY
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_inversion_error_in_float32_at_48_channels(form, mode):
    torch.manual_seed(1)
    layer = getattr(InvertibleConv1x1(48, form), mode)()
    for parameter in layer.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    x = torch.randn(4, 48, 8, 8)
    with torch.no_grad():
        assert (layer.inverse(layer(x)[0]) - x).abs().max() <= 1e-5


def test_forms_begin_alike_and_draw_alike():
    made = {}
    for form in FORMS:
        torch.manual_seed(3)
        made[form] = InvertibleConv1x1(6, form).matrix().detach(), torch.rand(1)
    first, after = made["plain"]
    torch.testing.assert_close(first @ first.mT, torch.eye(6))
    for matrix, next_number in made.values():
        torch.testing.assert_close(matrix, first)
        assert next_number == after


def test_forms_from_one_matrix_agree():
    layers = [some(form, channels=8)[0] for form in FORMS]
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    (y, log_det), *others = (layer(x) for layer in layers)
    for other, logarithm in others:
        torch.testing.assert_close(other, y, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(logarithm, log_det, rtol=1e-10, atol=1e-10)


def test_svd_never_decomposes():
    layer = InvertibleConv1x1(8, "svd")
    x = torch.randn(2, 8, 4, 4)
    refuse = AssertionError("decomposed")
    names = ("svd", "inv", "slogdet", "det", "lu_factor", "solve")
    with torch.no_grad():
        patches = [mock.patch(f"torch.linalg.{name}", side_effect=refuse) for name in names]
        for patch in patches:
            patch.start()
        try:
            y, _ = layer(x)
            layer.inverse(y)
        finally:
            for patch in patches:
                patch.stop()


@EVERY
def test_state_is_restored(form):
    layer, W = some(form)
    again = InvertibleConv1x1(4, form).double()
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again.matrix(), W, rtol=1e-12, atol=1e-12)
    assert again.slogdet()[0] == -1


@EVERY
def test_kept_inverse_follows_the_parameters(form):
    layer, _ = some(form)
    layer.eval().requires_grad_(False)
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    layer.inverse(layer(x)[0])
    for parameter in layer.parameters():
        parameter += 0.1
    torch.testing.assert_close(layer.inverse(layer(x)[0]), x, rtol=1e-9, atol=1e-9)


@EVERY
def test_matrix_is_exempt_from_weight_decay(form):
    assert all(parameter.no_weight_decay for parameter in InvertibleConv1x1(3, form).parameters())


@EVERY
def test_autocast_leaves_the_determinant_alone(form):
    layer = InvertibleConv1x1.from_matrix(torch.diag(torch.tensor([1.001, 2.0, 3.0])), form)
    x = torch.randn(2, 3, 2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, log_det = layer(x)
    torch.testing.assert_close(log_det, torch.full((2,), 4 * math.log(6.006)))


def test_refusals():
    with pytest.raises(UnknownNameError, match=r"unknown form 'lu'\. Did you mean 'plu'"):
        InvertibleConv1x1(4, "lu")
    with pytest.raises(OptionError, match="channels is 0; allowed: a whole number >= 1"):
        InvertibleConv1x1(0)
    with pytest.raises(OptionError, match="options width are of the form 'svd'"):
        InvertibleConv1x1(4, "plain", width=1.0)
    with pytest.raises(ShapeError, match="square"):
        InvertibleConv1x1.from_matrix(torch.ones(2, 3))
    with pytest.raises(ShapeError, match="singular"):
        InvertibleConv1x1.from_matrix(torch.ones(3, 3))
    with pytest.raises(ShapeError, match=r"\(B, 4, H, W\) is needed"):
        InvertibleConv1x1(4)(torch.ones(1, 3, 2, 2))
