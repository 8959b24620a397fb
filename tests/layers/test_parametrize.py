"""Parametrisations on layers that exist."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from gcp.errors import OptionError, ShapeError
from gcp.layers import nearest_orthonormal, orthogonal, svd

MODULES = {
    "linear": lambda: nn.Linear(6, 4),
    "tall linear": lambda: nn.Linear(4, 6),
    "square conv": lambda: nn.Conv2d(5, 5, 1),
    "conv": lambda: nn.Conv2d(8, 4, 1),
    "tall conv": lambda: nn.Conv2d(4, 8, 1),
    "3x3 conv": lambda: nn.Conv2d(4, 8, 3),
    "grouped conv": lambda: nn.Conv1d(4, 4, 3, groups=2),
}


@pytest.fixture(params=MODULES)
def module(request):
    torch.manual_seed(0)
    return MODULES[request.param]()


def test_the_matrix_of_the_weight_is_orthonormal(module, orthonormality):
    before = nearest_orthonormal(module.weight.flatten(1)).view_as(module.weight)
    assert orthogonal(module) is module
    assert module.weight.shape == before.shape and orthonormality(module.weight) < 2e-6
    assert torch.allclose(module.weight, before, atol=1e-5)
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    for _ in range(5):
        module.weight.sin().sum().backward()
        optimizer.step()
    assert orthonormality(module.weight) < 2e-6 and not torch.allclose(module.weight, before, atol=1e-2)


def test_a_convolution_mixes_channels(orthonormality):
    """Taken as many 1x1 matrices, every entry would be 1 or -1."""
    conv = orthogonal(nn.Conv2d(8, 8, 1, bias=False)).double()
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    assert torch.allclose(conv(x).norm(dim=1), x.norm(dim=1), atol=1e-5)
    assert conv.weight.abs().max() < 0.99


def test_singular_values_keep_the_function(module):
    plain = copy.deepcopy(module)
    svd(module)
    assert torch.allclose(module.weight, plain.weight, atol=1e-6)
    module.weight.sin().sum().backward()
    parts = list(module.parametrizations.weight.parameters())
    assert len(parts) == 3 and all(p.grad is not None and p.no_weight_decay for p in parts)
    values = torch.linalg.svdvals(plain.weight.detach().flatten(1))
    got = module.parametrizations.weight[0].map.values(module.parametrizations.weight.original1)
    assert torch.allclose(got.detach(), values, atol=1e-6)


def test_a_matrix_can_be_assigned(orthonormality):
    linear = orthogonal(nn.Linear(5, 5))
    Q = nearest_orthonormal(torch.randn(5, 5))
    Q = Q * torch.tensor([1.0, 1, 1, 1, -1])
    linear.weight = Q
    assert torch.allclose(linear.weight, Q, atol=1e-6)
    with pytest.raises(ShapeError, match="not orthonormal"):
        linear.weight = torch.randn(5, 5)


def test_state_dict_copy_and_removal():
    torch.manual_seed(1)
    linear, other, x = orthogonal(nn.Linear(5, 3)), orthogonal(nn.Linear(5, 3)), torch.randn(2, 5)
    other.load_state_dict(linear.state_dict())
    assert torch.equal(other(x), linear(x)) and torch.equal(copy.deepcopy(linear)(x), linear(x))
    weight = linear.weight.detach().clone()
    parametrize.remove_parametrizations(linear, "weight")
    assert type(linear) is nn.Linear and torch.equal(linear.weight, weight)


@pytest.mark.parametrize("make", [orthogonal, svd])
def test_bad_arguments(make):
    with pytest.raises(OptionError, match=r"Linear .*'wieght' .*weight"):
        make(nn.Linear(3, 3), "wieght")
    with pytest.raises(OptionError, match="Linear has no parameter 'bias' of two dimensions"):
        make(nn.Linear(3, 3), "bias")
    with pytest.raises(OptionError, match="parametrised already"):
        make(orthogonal(nn.Linear(3, 3)))
    with pytest.raises(OptionError, match=r"ReLU has no parameter 'weight' .*: it has none"):
        make(nn.ReLU())
    with pytest.raises(OptionError, match="block is 0"):
        make(nn.Linear(3, 3), block=0)


def test_svd_refuses_what_it_cannot_hold():
    with pytest.raises(OptionError, match=r"nothing to train .*gcp\.layers\.orthogonal"):
        svd(nn.Linear(3, 3), spectrum="fixed")
    with pytest.raises(OptionError, match=r"holds values within 0.9 and 1.1"):
        svd(nn.Linear(3, 3), spectrum="box", width=0.1)


def test_autocast():
    linear, x = orthogonal(nn.Linear(6, 4)), torch.randn(3, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear.weight.dtype == torch.float32 and linear(x).dtype == torch.bfloat16
