"""Every layer: both ways to compute, gradients, copies, precision, compiler, bad input."""

import copy
import pickle

import pytest
import torch

from gcp.errors import OptionError, ShapeError
from gcp.layers import LinearSVD, Orthogonal, OrthogonalConv1x1, OrthogonalLinear, SVDConv1x1, SVDLinear
from gcp.layers.factored import ProductLayer

FEW, MANY = 2, 60


@pytest.mark.parametrize("count", [0, 1, FEW, MANY])
def test_output_is_that_of_the_matrix(layer, columns, plain, count):
    x = columns(layer, count)
    assert layer._applies(count) == (count <= FEW)
    out = layer(x)
    assert out.is_contiguous() and torch.allclose(out, plain(layer, x), atol=1e-12)


def test_both_ways_have_the_same_gradients(layer, columns, monkeypatch):
    x = columns(layer, 7).requires_grad_()
    leaves, gradients = (x, *layer.parameters()), []
    for applies in (True, False):
        monkeypatch.setattr(ProductLayer, "_applies", lambda self, count, applies=applies: applies)
        gradients.append(torch.autograd.grad(layer(x).sin().sum() + layer.matrix().cos().sum(), leaves))
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("count", [FEW, MANY])
def test_inverse_is_the_pseudo_inverse(layer, columns, count):
    y = columns(layer, count, layer.out_features)
    flat = y.flatten(1) - layer.bias if layer.bias is not None else y.flatten(1)
    expected = flat @ torch.linalg.pinv(layer.matrix()).mT
    assert torch.allclose(layer.inverse(y).flatten(1), expected, atol=1e-10)
    layer.eval()
    with torch.no_grad():
        assert torch.allclose(layer.inverse(y).flatten(1), expected, atol=1e-10)


@pytest.mark.parametrize("count", [2, 20])
def test_gradcheck(layer, columns, count):
    x = columns(layer, count).requires_grad_()
    inputs = (x, *layer.parameters())
    assert torch.autograd.gradcheck(lambda *_: layer(x).sum(0), inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *_: layer(x).sum(0), inputs, fast_mode=True)


def test_any_leading_dimensions_and_strides():
    layer = OrthogonalLinear(6, 4)
    for shape in ((6,), (2, 6), (2, 3, 6), (2, 3, 4, 5, 6)):
        x = torch.randn(shape)
        assert torch.allclose(layer(x), x @ layer.weight.mT, atol=1e-5)
    x = torch.randn(6, 5).mT[::2]
    assert torch.allclose(layer(x), x @ layer.weight.mT, atol=1e-5)


@pytest.mark.parametrize("kind", [OrthogonalConv1x1, SVDConv1x1])
@pytest.mark.parametrize("size", [1, 9])
def test_convolutions_take_channels_last(kind, size, plain):
    layer, x = kind(6, 4), torch.randn(2, 6, size, size)
    out = layer(x.contiguous(memory_format=torch.channels_last))
    assert out.shape == (2, 4, size, size) and torch.allclose(out, plain(layer, x), atol=1e-5)


def test_different_blocks_do_not_meet(stack):
    model, x = stack().double(), torch.randn(3, 12, dtype=torch.float64)
    expected = x @ model[0].weight.mT @ model[1].weight.mT
    assert torch.allclose(model(x), expected, atol=1e-12)
    (gradient,) = torch.autograd.grad(model(x).sin().sum(), model[0].frame.vectors)
    model[1].block = model[1].frame.block = 12
    (other,) = torch.autograd.grad(model(x).sin().sum(), model[0].frame.vectors)
    assert torch.allclose(gradient, other, atol=1e-12)


@pytest.mark.parametrize("reflectors", [0, 1, 3, 9])
def test_any_number_of_reflectors(reflectors, orthonormality, columns, plain):
    for layer in (
        Orthogonal(5, reflectors=reflectors),
        OrthogonalLinear(3, 5, reflectors=reflectors),
        SVDLinear(5, 3, reflectors=reflectors),
    ):
        layer = layer.double()
        assert torch.allclose(layer(columns(layer, 4)), plain(layer, columns(layer, 4)), atol=1e-13)
    assert orthonormality(Orthogonal(5, reflectors=reflectors).weight) < 1e-6


def test_one_dimension():
    assert Orthogonal(1).weight.abs().item() == 1
    layer = SVDLinear(1, 1)
    assert torch.allclose(layer.inverse(layer(torch.ones(3, 1))), torch.ones(3, 1))


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_compute_the_same_and_train_apart(layer, columns, copier):
    x = columns(layer, 4)
    expected = layer(x).detach()
    layer.eval()
    with torch.no_grad():
        layer(x)
    other = copier(layer)
    assert torch.equal(other.train()(x), layer.train()(x))
    marked = [name for name, p in other.named_parameters() if getattr(p, "no_weight_decay", False)]
    assert marked == [name for name, _ in other.named_parameters() if name != "bias"]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert torch.allclose(other(x), expected, atol=1e-13) and not torch.allclose(layer(x), expected)


def test_state_dict_round_trip(layer, columns):
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(columns(layer, 3)), layer(columns(layer, 3)))
    assert not any("cache" in key or "matrix" in key for key in layer.state_dict())


def test_no_weight_decay_group(layer):
    from gcp.models.parts import parameter_groups

    model = torch.nn.ModuleDict({"features": torch.nn.Identity(), "head": layer, "classifier": torch.nn.Identity()})
    groups = {group["name"]: group for group in parameter_groups(model, lr=0.1, weight_decay=0.1, decay_all=True)}
    exempt = {id(p) for p in groups["head.no_decay"]["params"]}
    assert exempt == {id(p) for name, p in layer.named_parameters() if name != "bias"}


@pytest.mark.parametrize("count", [FEW, MANY])
def test_autocast_gives_what_a_linear_layer_would(layer, columns, count):
    layer = layer.float()
    x = columns(layer, count)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
        assert layer.matrix().dtype == torch.float32
        back = layer.inverse(out)
    assert out.dtype == back.dtype == torch.bfloat16
    assert torch.allclose(out.float(), expected, rtol=0.03, atol=0.1)
    out.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("count", [FEW, MANY])
def test_half_precision_layers(layer, columns, count):
    expected = layer(columns(layer, count))
    layer = layer.bfloat16()
    out = layer(columns(layer, count))
    assert out.dtype == torch.bfloat16 and torch.allclose(out.double(), expected, rtol=0.1, atol=0.3)


@pytest.mark.parametrize(("name", "count"), [("wide", FEW), ("svd_conv", MANY), ("symmetric", FEW)])
def test_compiles_to_one_graph(layer_of, columns, name, count):
    """One layer for each way through the code: a compilation takes seconds."""
    layer = layer_of(name)
    torch._dynamo.reset()
    step = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=False)
    x = columns(layer, count)
    assert torch.allclose(step(x), layer(x), atol=1e-12)
    gradients = [torch.autograd.grad(f(x).sin().sum(), list(layer.parameters())) for f in (step, layer)]
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


def test_functional_call(layer, columns):
    x = columns(layer, FEW)
    leaves = {name: (p.detach() * 1.1 + 0.1).requires_grad_() for name, p in layer.named_parameters()}
    other = copy.deepcopy(layer)
    other.load_state_dict(leaves, strict=False)
    assert torch.equal(torch.func.functional_call(layer, leaves, (x,)), other(x))


def test_gpu_free_meta_device_gives_shapes(layer, columns):
    shape = layer(columns(layer, FEW)).shape
    assert layer.to("meta")(columns(layer, FEW).to("meta")).shape == shape


def test_wrong_input_is_named():
    linear, conv = OrthogonalLinear(6, 4), OrthogonalConv1x1(6, 4)
    with pytest.raises(ShapeError, match=r"\(\.\.\., 6\) is needed, got shape \(2, 5\)"):
        linear(torch.ones(2, 5))
    with pytest.raises(ShapeError, match=r"\(\.\.\., 4\) is needed, got shape \(2, 6\)"):
        linear.inverse(torch.ones(2, 6))
    with pytest.raises(ShapeError, match=r"\(B, 6, H, W\) is needed, got shape \(2, 6\)"):
        conv(torch.ones(2, 6))
    with pytest.raises(ShapeError, match=r"input .*float64.*layer .*float32.*convert"):
        linear(torch.ones(2, 6).double())


def test_wrong_arguments_are_named():
    with pytest.raises(OptionError, match="in_features is 0; allowed: a whole number >= 1"):
        OrthogonalLinear(0, 3)
    with pytest.raises(OptionError, match="reflectors is -1; allowed: a whole number >= 0"):
        Orthogonal(3, reflectors=-1)
    with pytest.raises(OptionError, match="block is 0"):
        SVDLinear(3, 3, block=0)
    with pytest.raises(OptionError, match="init is 'har'; allowed: haar, identity"):
        Orthogonal(3, init="har")


def test_names():
    assert LinearSVD is SVDLinear
    assert "6 -> 4" in repr(OrthogonalLinear(6, 4)) and "4 reflectors" in repr(OrthogonalLinear(6, 4))
