"""Reflectors that begin one entry later each, against full ones with zeros in the same places, and as a layer."""

from copy import deepcopy

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gcp.errors import OptionError, ShapeError
from gcp.layers import Orthogonal, OrthogonalLinear
from gcp.layers.frame import Frame, frame_matrix
from gcp.layers.triangular import BLOCK, TriangularFrame, TriangularProduct


def frame(d, p, dtype=torch.float64):
    torch.manual_seed(0)
    made = TriangularFrame(d, p).to(dtype)
    made.vectors.data += 0.3 * torch.randn(p, d, dtype=dtype).triu()
    return made


@pytest.mark.parametrize("d, p", [(1, 1), (5, 5), (9, 4), (BLOCK + 3, BLOCK + 3), (2 * BLOCK + 6, BLOCK + 2)])
def test_is_the_product_of_its_reflectors(d, p):
    made = frame(d, p)
    F = frame_matrix(made.vectors, p)
    X, Y = torch.randn(p, 3, dtype=F.dtype), torch.randn(d, 3, dtype=F.dtype)
    for found, wanted in ((made.matrix(), F), (made.multiply(X), F @ X), (made.adjoint(Y), F.mT @ Y)):
        torch.testing.assert_close(found, wanted)
        G = torch.randn_like(wanted)
        gradients = [torch.autograd.grad(out, made.vectors, G, retain_graph=True)[0] for out in (found, wanted)]
        torch.testing.assert_close(gradients[0], gradients[1].triu())


@pytest.mark.parametrize("transpose, square", [(False, False), (True, False), (False, True)])
def test_gradients(transpose, square, monkeypatch):
    monkeypatch.setattr("gcp.layers.triangular.BLOCK", 2)
    V = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    X = torch.eye(5, dtype=V.dtype) if square else torch.randn(5, 2, dtype=V.dtype, requires_grad=True)
    assert gradcheck(lambda V, X: TriangularProduct.apply(V, X, transpose, square), (V, X))
    assert gradgradcheck(lambda V, X: TriangularProduct.apply(V, X, transpose, square), (V, X))


@pytest.mark.parametrize("rows", [2, 40], ids=["applied", "built"])
def test_a_layer_like_the_others(rows):
    layer, x = Orthogonal(12, method="triangular"), torch.randn(rows, 12)
    W = layer.weight.detach()
    torch.testing.assert_close(layer(x), x @ W.mT)
    torch.testing.assert_close(layer.inverse(layer(x)), x)
    assert layer.slogdet()[0] == torch.linalg.slogdet(W)[0]
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-2)
    for _ in range(50):
        optimizer.zero_grad()
        (layer(x) - 1).square().mean().backward()
        optimizer.step()
    W = layer.weight.detach()
    assert (W @ W.mT - torch.eye(12)).abs().max() < 1e-5 and not layer.frame.vectors.tril(-1).any()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    step = torch.compile(layer, fullgraph=True, backend="eager", dynamic=False)
    torch.testing.assert_close(step(x), layer(x))
    assert deepcopy(layer).frame.vectors.no_weight_decay


def test_starts():
    assert torch.allclose(Orthogonal(7, init="identity", method="triangular").weight, torch.eye(7), atol=1e-6)
    W = torch.linalg.qr(torch.randn(6, 6))[0]
    W[:, 0] *= -torch.linalg.det(W).sign()  # determinant -1
    torch.testing.assert_close(Orthogonal.from_matrix(W, method="triangular").weight, W)
    torch.manual_seed(0)
    full = Orthogonal(200)
    torch.manual_seed(0)
    assert torch.equal(Orthogonal(200, method="auto").frame.vectors, full.frame.vectors)
    with pytest.raises(OptionError, match="method='householder'"):
        Orthogonal(8, method="triangular", block=4)
    with pytest.raises(ShapeError, match="not orthonormal"):
        Orthogonal.from_matrix(2 * W, method="triangular")


def test_takes_the_state_of_full_reflectors():
    full, layer = Orthogonal(9), Orthogonal(9, method="triangular")
    full.frame.vectors.data.normal_()
    layer.load_state_dict(full.state_dict())
    torch.testing.assert_close(layer.weight, full.weight, rtol=0, atol=1e-5)
    assert full.frame.vectors.tril(-1).any() and not layer.frame.vectors.tril(-1).any()
    thin, made = Frame(9, 3), TriangularFrame(9, 3)
    thin.vectors.data.normal_()
    made.load_state_dict(thin.state_dict())
    torch.testing.assert_close(made.matrix(), OrthogonalLinear.from_matrix(thin.matrix().detach()).weight)
