"""The matrix that is kept in eval mode is never an old one, and never hides a gradient."""

import copy
from unittest import mock

import pytest
import torch
from torch import nn

from gcp import layers


def changed_by(kind, layer):
    """Change the reflectors of a layer in some way."""
    V = layer.frame.vectors
    noise = torch.randn_like(V)
    match kind:
        case "in place":
            with torch.no_grad():
                V.add_(noise)
        case "one entry":
            with torch.no_grad():
                V[0, -1] += 0.5
        case "data":
            V.data.add_(noise)
        case "data replaced":
            V.data = V.data + noise
        case "detached":
            V.detach().add_(noise)
        case "load_state_dict":
            layer.load_state_dict({"frame.vectors": noise})
        case "load_state_dict assign":
            layer.load_state_dict({"frame.vectors": noise}, assign=True)
        case "step":
            V.grad = noise
            torch.optim.SGD(layer.parameters(), 1.0).step()
        case "new parameter":
            layer.frame.vectors = nn.Parameter(noise)
        case "half and back":
            layer.bfloat16().float()
        case "float64":
            layer.double()
        case "assign":
            layer.frame.assign(torch.eye(len(V)).flip(0))
        case "inference mode":
            with torch.inference_mode():
                V.add_(noise)


KINDS = ["in place", "one entry", "data", "data replaced", "detached", "load_state_dict", "load_state_dict assign"]
KINDS += ["step", "new parameter", "half and back", "float64", "assign", "inference mode"]


@pytest.mark.parametrize("kind", KINDS)
def test_never_stale(kind):
    layer, x = layers.Orthogonal(6).eval(), torch.randn(3, 6)
    with torch.no_grad():
        before = layer(x)
        changed_by(kind, layer)
        x = x.to(layer.frame.vectors.dtype)
        after = layer(x)
        assert torch.allclose(after, copy.deepcopy(layer).train()(x), atol=1e-6)
    assert not torch.equal(after.float(), before)


def test_spectrum_and_bias_are_watched_too():
    layer, x = layers.SVDLinear(4, 4).eval(), torch.randn(3, 4)
    with torch.no_grad():
        for name in ("spectrum.raw", "left.vectors", "right.vectors", "bias"):
            before = layer(x), layer.inverse(x)
            layer.get_parameter(name).add_(torch.randn_like(layer.get_parameter(name)))
            after = layer(x), layer.inverse(x)
            fresh = copy.deepcopy(layer).train()
            for old, new, expected in zip(before, after, (fresh(x), fresh.inverse(x)), strict=True):
                assert not torch.equal(old, new) and torch.allclose(new, expected, atol=1e-4)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_built_once(context):
    layer, x = layers.Orthogonal(6).eval(), torch.randn(3, 6)
    expected = layer(x)
    with (
        context(),
        mock.patch.object(layers.Orthogonal, "build", autospec=True, side_effect=layers.Orthogonal.build) as build,
    ):
        for _ in range(3):
            assert torch.allclose(layer(x), expected, atol=1e-6)
        assert build.call_count == 1
        layer.train().eval()(x)
        assert build.call_count == 2


def test_a_matrix_edited_by_the_user_is_built_again():
    layer = layers.Orthogonal(4).eval()
    with torch.no_grad():
        expected = layer.weight.clone()
        layer.weight.zero_()
        assert torch.equal(layer.weight, expected)


def test_kept_matrices_serve_later_gradients():
    """Of the input, through a frozen layer, also where the matrix was first built in inference mode."""
    layer, x = layers.Orthogonal(4).eval().requires_grad_(False), torch.randn(2, 4)
    with torch.inference_mode():
        layer.matrix()
    leaf = x.clone().requires_grad_()
    (layer.matrix() @ leaf.mT).sum().backward()
    assert torch.allclose(leaf.grad, layer.weight.sum(0).expand(2, 4), atol=1e-6)


def test_gradients_in_eval_mode_reach_the_parameters():
    layer, x = layers.Orthogonal(4).eval(), torch.randn(2, 4)
    with torch.no_grad():
        layer(x)
    layer(x).sin().sum().backward()
    assert layer.frame.vectors.grad.any()
    assert layer.weight.requires_grad


def test_layers_made_in_inference_mode():
    with torch.inference_mode():
        layer, x = layers.Orthogonal(4).eval(), torch.randn(2, 4)
        first = layer(x)
        layer.frame.vectors.add_(1.0)
        assert not torch.equal(layer(x), first)


def test_functional_call_in_eval_mode():
    layer, x = layers.Orthogonal(4).eval(), torch.randn(2, 4)
    with torch.no_grad():
        first = layer(x)
        other = torch.func.functional_call(layer, {"frame.vectors": torch.randn(4, 4)}, (x,))
        assert not torch.equal(first, other) and torch.equal(layer(x), first)


def test_parametrised_layers_keep_and_renew_too():
    layer, x = layers.orthogonal(nn.Linear(4, 4)).eval(), torch.randn(2, 4)
    original = layer.parametrizations.weight.original
    with torch.no_grad():
        assert layer.weight is layer.weight
        first = layer(x)
        original.add_(torch.randn_like(original))
        assert not torch.equal(layer(x), first)
    assert layer.weight.requires_grad
