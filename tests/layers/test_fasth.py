"""FastH's interface against its definition, one reflection after the other in float64."""

from copy import deepcopy

import pytest
import torch

from gcp import layers
from gcp.errors import OptionError, ShapeError
from gcp.layers.fasth import LinearSVD, Orthogonal, fasthpp


def reflected(V, X, first_to_last):
    """Rows of V as reflectors, applied to X one by one."""
    for v in V if first_to_last else V.flip(0):
        X = X - 2 * v[:, None] @ (v[None] @ X) / (v @ v)
    return X


def linear_svd(layer, X):
    """The product that the published minimal example computes."""
    return reflected(layer.V.U, layer.D * reflected(layer.U.U, X, True), True)


def gradients(function, X, parameters):
    X = X.detach().clone().requires_grad_(True)
    out = function(X)
    return [out, *torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), [X, *parameters])]


def same(found, wanted, tolerance=1e-6):
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine - theirs).abs().max() < tolerance * theirs.abs().max()


@pytest.mark.parametrize("shape", [(64, 32), (64, 1), (3, 64, 8)])
def test_orthogonal_is_the_published_product(shape):
    torch.manual_seed(0)
    layer, X = Orthogonal(64, 32).double(), torch.randn(shape).double()
    same(gradients(layer, X, [layer.U]), gradients(lambda X: reflected(layer.U, X, True), X, [layer.U]))
    same(gradients(layer.inverse, X, [layer.U]), gradients(lambda X: reflected(layer.U, X, False), X, [layer.U]))
    single, X = deepcopy(layer).float(), X.float()
    same([single(X)], [layer(X.double())])
    same([single.inverse(single(X))], [X], 1e-5)
    assert layer.lgdet(X) == 0 and set(layer.state_dict()) == {"U"}


def test_the_minimal_example():
    torch.manual_seed(0)
    neuralSVD = LinearSVD(d=64)
    X = torch.zeros(64, 32).normal_(0, 1)
    parameters = [neuralSVD.U.U, neuralSVD.D, neuralSVD.V.U]
    found = gradients(neuralSVD.forward, X, parameters)
    exact = deepcopy(neuralSVD).double()
    wanted = gradients(lambda X: linear_svd(exact, X), X.double(), [exact.U.U, exact.D, exact.V.U])
    same(found, wanted, 5e-6)
    same([neuralSVD.inverse(found[0])], [X], 1e-5)
    sign, logarithm = torch.linalg.slogdet(exact(torch.eye(64).double()))
    assert sign == 1 and abs(logarithm - exact.lgdet(X)) < 1e-10
    assert ((neuralSVD.D - 1).abs() <= 0.0100001).all()


@pytest.mark.parametrize("stop", [0, 3, 4, None])
@pytest.mark.parametrize("shape", [(64, 8), (64, 64, 8)], ids=["(d, bs)", "(d, d, bs)"])
def test_fasthpp_is_the_published_product(shape, stop):
    torch.manual_seed(0)
    V, X = torch.randn(64, 64).double(), torch.randn(shape).double()
    V = (V / V.norm(dim=0)).requires_grad_()
    same(
        gradients(lambda X: fasthpp(V, X, stop_recursion=stop), X, [V]),
        gradients(lambda X: reflected(V.T, X, False), X, [V]),
    )


def test_what_fasth_refuses():
    torch.manual_seed(0)
    X, odd = torch.randn(30, 4).double(), Orthogonal(30, 7).double()  # 7 does not divide 30, nor is it a power of two
    same([odd(X), fasthpp(odd.U.T, X)], [reflected(odd.U, X, True), reflected(odd.U, X, False)])
    one = Orthogonal(30, strategy="sequential").double()
    one.load_state_dict(odd.state_dict())
    same([one(X)], [odd(X)])
    first, second = Orthogonal(8, 2), Orthogonal(8, 4)
    assert (first.m, second.m) == (2, 4)
    with pytest.raises(OptionError, match="Did you mean 'sequential'"):
        Orthogonal(8, strategy="sequentiel")
    with pytest.raises(OptionError, match="stop_recursion"):
        fasthpp(torch.eye(4), torch.eye(4), -1)
    for layer, X in ((LinearSVD(64), torch.zeros(32, 64)), (Orthogonal(4), torch.zeros(4))):
        with pytest.raises(ShapeError, match=r"batch.*X\.mT.*gcp\.layers\.Orthogonal"):
            layer(X)


def test_a_state_without_singular_values_loads_with_a_word():
    layer = LinearSVD(6)
    state = {name: value for name, value in layer.state_dict().items() if name != "D"}
    fresh = LinearSVD(6)
    before = fresh.D.detach().clone()
    with pytest.warns(UserWarning, match="holds no D"):
        fresh.load_state_dict(state)
    assert torch.equal(fresh.D, before) and torch.equal(fresh.U.U, layer.U.U)
    assert all(parameter.no_weight_decay for parameter in deepcopy(layer).parameters())


def test_the_other_layers_name_the_way_out():
    with pytest.raises(OptionError, match=r"block=32.*reflectors=32.*gcp\.layers\.fasth"):
        layers.Orthogonal(64, 32)
    with pytest.raises(OptionError, match=r"LinearSVD\(64, 64\).*gcp\.layers\.fasth"):
        layers.LinearSVD(64)
    with pytest.raises(OptionError, match=r"gcp\.layers\.fasth"):
        layers.LinearSVD(d=64, m=32)
    for layer in (layers.Orthogonal(64), layers.LinearSVD(64, 64)):
        with pytest.raises(ValueError, match=r"gcp\.layers\.fasth.*layer\(X\.mT\)\.mT"):
            layer(torch.zeros(64, 32))
