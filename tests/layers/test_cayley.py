"""Orthogonal matrices by Cayley's map against the formula, and as a layer like the others."""

from copy import deepcopy

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gcp.errors import OptionError, ShapeError
from gcp.layers import Orthogonal
from gcp.layers.cayley import CayleyFrame


def trained(d=6, init="haar", scale=0.5, seed=0):
    torch.manual_seed(seed)
    layer = Orthogonal(d, method="cayley", init=init).double()
    with torch.no_grad():
        layer.frame.entries.normal_(0, scale)
    return layer


def formula(layer):
    L = layer.frame.entries.tril(-1)
    A, identity = L - L.mT, torch.eye(len(L), dtype=L.dtype)
    return layer.frame.base @ (identity - A) @ torch.linalg.inv(identity + A)


@pytest.mark.parametrize("d", [1, 2, 5, 33])
@pytest.mark.parametrize("rows", [1, 200], ids=["applied", "built"])
def test_is_the_formula(d, rows):
    layer, x = trained(d), torch.randn(rows, d, dtype=torch.float64)
    W = formula(layer)
    torch.testing.assert_close(layer.weight, W)
    torch.testing.assert_close(layer(x), x @ W.mT)
    torch.testing.assert_close(layer.inverse(layer(x)), x)
    torch.testing.assert_close(layer.eval().requires_grad_(False)(x), x @ W.mT)
    assert (W @ W.mT - torch.eye(d)).abs().max() < 1e-12
    sign, logarithm = layer.slogdet()
    assert sign == torch.linalg.slogdet(W)[0] and logarithm == 0


def test_gradients_of_both_ways():
    layer = trained(4)
    for x in (torch.randn(1, 4).double(), torch.randn(9, 4).double()):
        leaves = x.requires_grad_(), layer.frame.entries
        assert gradcheck(lambda x, _: layer(x), leaves)
        assert gradgradcheck(lambda x, _: layer(x), leaves)
        assert gradcheck(lambda x, _: layer.inverse(x), leaves)


def test_stays_orthogonal_under_large_steps():
    torch.manual_seed(0)
    layer = Orthogonal(24, method="cayley")
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0, momentum=0.9)
    x, y = torch.randn(64, 24), torch.randn(64, 24)
    for _ in range(300):
        optimizer.zero_grad()
        (layer(x) - y).square().mean().backward()
        optimizer.step()
    W = layer.weight.detach().double()
    assert (W @ W.mT - torch.eye(24)).abs().max() < 1e-5


def test_starts():
    assert torch.equal(Orthogonal(5, method="cayley", init="identity").weight, torch.eye(5))
    signs = {float(Orthogonal(4, method="cayley").slogdet()[0]) for _ in range(30)}
    assert signs == {-1.0, 1.0}
    W = torch.linalg.qr(torch.randn(5, 5))[0]
    W[:, 0] *= -torch.linalg.det(W).sign()  # determinant -1
    layer = Orthogonal.from_matrix(W, method="cayley")
    torch.testing.assert_close(layer.weight, W)
    with pytest.raises(ShapeError, match="not orthonormal"):
        Orthogonal.from_matrix(2 * W, method="cayley")
    with pytest.raises(ShapeError, match=r"\(4, 4\)"):
        CayleyFrame(4).assign(W)


def test_auto_takes_the_faster():
    assert isinstance(Orthogonal(128, method="auto").frame, CayleyFrame)
    for layer in (Orthogonal(129, method="auto"), Orthogonal(8, method="auto", block=4), Orthogonal(8)):
        assert hasattr(layer.frame, "vectors")
    with pytest.raises(OptionError, match="Did you mean 'cayley'"):
        Orthogonal(8, method="caley")
    with pytest.raises(OptionError, match="method='householder'"):
        Orthogonal(8, method="cayley", reflectors=4)


def test_copies_states_and_types():
    layer, x = trained(), torch.randn(3, 6)
    fresh = Orthogonal(6, method="cayley").double()
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x.double()), layer(x.double()))
    assert deepcopy(layer).frame.entries.no_weight_decay
    single = deepcopy(layer).float()
    fresh.load_state_dict(single.state_dict())
    W = fresh.weight
    assert (W @ W.mT - torch.eye(6)).abs().max() < 1e-12
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert single(x).dtype == torch.bfloat16
    torch.testing.assert_close(single(x).double(), layer(x.double()), rtol=1e-4, atol=1e-5)
    layer.frame.reset_parameters()
    assert not layer.frame.entries.any()
