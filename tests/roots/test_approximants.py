"""MPA and MTP: the forward against 50 digits, and the Lyapunov equation of their own output."""

import mpmath
import pytest
import torch

import gcp


def scalar(solver, values):
    """phi of the eigenvalues over their Frobenius norm, times its root."""
    with mpmath.workdps(50):
        series = mpmath.taylor(lambda z: mpmath.sqrt(1 - z), 0, 10)
        nu = mpmath.sqrt(sum(mpmath.mpf(v) ** 2 for v in values))
        if solver == "mtp":
            return [float(mpmath.sqrt(nu) * mpmath.polyval(series[::-1], 1 - v / nu)) for v in values]
        p, q = mpmath.pade(series, 5, 5)
        return [
            float(mpmath.sqrt(nu) * mpmath.polyval(p[::-1], 1 - v / nu) / mpmath.polyval(q[::-1], 1 - v / nu))
            for v in values
        ]


@pytest.mark.parametrize("solver", ["mpa", "mtp"])
@pytest.mark.parametrize("values", [[3.0, 1.0, 0.2, 0.01], [2.0, 2.0, 0.5, 0.0]])
def test_forward(solver, values):
    V = torch.linalg.qr(torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    P = (V * torch.tensor(values, dtype=torch.float64)) @ V.mT
    expected = (V * torch.tensor(scalar(solver, values), dtype=torch.float64)) @ V.mT
    Q = gcp.matrix_sqrt((P + P.mT) / 2, solver=solver)
    assert float((Q - expected).norm() / expected.norm()) < 1e-13


def lyapunov(Q, C):
    """X with Q X + X Q = C, through the eigenvectors of Q."""
    r, V = torch.linalg.eigh(Q)
    return V @ ((V.mT @ C @ V) / (r[:, :, None] + r[:, None, :])) @ V.mT


DTYPES = [(torch.float32, 1e-6), (torch.float64, 1e-10)]


@pytest.mark.parametrize(("dtype", "limit"), DTYPES)
@pytest.mark.parametrize("solver", ["mpa", "mtp"])
@pytest.mark.parametrize("values", [[3.0, 1.0, 0.2, 0.01, 1e-4], [1.0, 1.0, 1.0, 0.0, 0.0]])
def test_matrix_gradient_solves_the_equation(solver, values, dtype, limit):
    generator = torch.Generator().manual_seed(0)
    V = torch.linalg.qr(torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)).Q
    P = (V * torch.tensor(values, dtype=torch.float64)) @ V.mT
    P = ((P + P.mT) / 2).to(dtype).requires_grad_()
    G = torch.randn(2, 5, 5, generator=generator, dtype=torch.float64).to(dtype)
    Q = gcp.matrix_sqrt(P, solver=solver)
    X = torch.autograd.grad(Q, P, G)[0].double()
    Q, G = Q.detach().double(), (G + G.mT).double() / 2
    assert float((Q @ X + X @ Q - G).norm() / G.norm()) < limit


@pytest.mark.parametrize(("dtype", "limit"), DTYPES)
@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("solver", ["mpa", "mtp"])
@pytest.mark.parametrize("shape", [(2, 6, 4, 4), (2, 12, 2, 4)])
def test_feature_gradient(shape, solver, side, dtype, limit):
    """(2/M) X Xc, with X from the output."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    G = torch.randn(2, shape[1], shape[1], generator=generator, dtype=torch.float64).to(dtype)
    Q = gcp.covariance_sqrt(x, solver=solver, side=side)
    (gradient,) = torch.autograd.grad(Q, x, G)
    X = x.detach().double().flatten(2)
    Xc = X - X.mean(2, keepdim=True)
    G = (G + G.mT).double() / 2
    expected = (2 / X.shape[2] * lyapunov(Q.detach().double(), G) @ Xc).reshape(shape)
    assert float((gradient.double() - expected).norm() / expected.norm()) < limit * 2


@pytest.mark.parametrize("solver", ["mpa", "mtp"])
def test_the_two_backwards_differ(solver):
    """By 1-23 %, which is why there are two."""
    x = torch.rand(2, 6, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    gradients = []
    for backward in ("lyapunov", "iterations"):
        Q = gcp.covariance_sqrt(x, solver=solver, backward=backward)
        gradients.append(torch.autograd.grad(Q.square().sum() + Q.sum(), x)[0])
    assert 1e-3 < float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 0.5
