"""Rules that are the gradient of an iteration, against autograd through that iteration."""

import pytest
import torch

import gcp


def matrices(values, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n = len(values)
    V = torch.linalg.qr(torch.randn(2, n, n, generator=generator, dtype=torch.float64)).Q
    P = (V * torch.tensor(values, dtype=torch.float64)) @ V.mT
    G = torch.randn(2, n, n, generator=generator, dtype=torch.float64)
    return (P + P.mT) / 2, G, V


def symmetric(A):
    return (A + A.mT) / 2


def deflated_power_iterations(P, start, iterations):
    """Root of P by power iterations from the given vectors; each eigenpair is taken off before the next."""
    Q = 0
    for i in range(P.shape[1]):
        v = start[:, :, i : i + 1]
        for _ in range(iterations):
            v = P @ v
            v = v / v.norm(dim=1, keepdim=True)
        value = v.mT @ P @ v
        Q = Q + value.sqrt() * (v @ v.mT)
        P = P - value * (v @ v.mT)
    return Q


@pytest.mark.parametrize("iterations", [1, 2, 19])
@pytest.mark.parametrize("values", [[3.0, 1.7, 0.6, 0.2], [1.01, 1.0, 0.99, 0.5]], ids=["separated", "close"])
def test_power_iteration(values, iterations):
    P, G, V = matrices(values)
    leaf = P.clone().requires_grad_()
    Q = deflated_power_iterations(leaf, V, iterations)
    expected = symmetric(torch.autograd.grad(Q, leaf, G)[0])
    leaf = P.clone().requires_grad_()
    root = gcp.matrix_sqrt(leaf, rule="power_iteration", iterations=iterations)
    (gradient,) = torch.autograd.grad(root, leaf, G)
    assert float((root - Q).norm()) < 1e-12
    assert float((gradient - expected).norm() / expected.norm()) < 1e-11
    # and by the weight itself
    W = gcp.spectral_weight(torch.tensor([values], dtype=torch.float64), rule="power_iteration", iterations=iterations)
    by_weight = V @ (W * (V.mT @ symmetric(G) @ V)) @ V.mT
    assert float((by_weight - expected).norm() / expected.norm()) < 1e-11


def newton_schulz(P, iterations):
    identity = torch.eye(P.shape[1], dtype=P.dtype)
    tau = P.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    Y, Z = P / tau, identity.expand_as(P)
    for _ in range(iterations):
        T = (3 * identity - Z @ Y) / 2
        Y, Z = Y @ T, T @ Z
    return tau.sqrt() * Y


@pytest.mark.parametrize("form", ["folded", "published"])
@pytest.mark.parametrize("iterations", [1, 5, 10])
@pytest.mark.parametrize("values", [[3.0, 1.7, 0.6, 0.2], [1.0, 1.0, 0.3, 0.3], [5.0, 1e-2, 1e-4, 0.0]])
def test_newton(values, iterations, form):
    """The trace term included. Null eigenvalues meet no features, so their own block is left out."""
    P, G, V = matrices(values)
    leaf = P.clone().requires_grad_()
    expected = symmetric(torch.autograd.grad(newton_schulz(leaf, iterations), leaf, G)[0])
    leaf = P.clone().requires_grad_()
    root = gcp.matrix_sqrt(leaf, rule="newton", iterations=iterations, form=form)
    (gradient,) = torch.autograd.grad(root, leaf, G)
    difference = V.mT @ (gradient - expected) @ V
    if values[-1] == 0 and form == "folded":
        difference[:, -1, -1] = 0
    assert float(difference.norm() / expected.norm()) < 1e-11
    exact = (V * torch.tensor(values, dtype=torch.float64).sqrt()) @ V.mT
    assert float((root - exact).norm() / exact.norm()) < (1e-13 if form == "folded" else 1e-7)


@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("iterations", [1, 5, 10])
@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 9, 2, 3)])
def test_newton_on_features(shape, iterations, side):
    """Also where the covariance is singular: the iteration itself is differentiable there."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
    G = torch.randn(2, shape[1], shape[1], generator=generator, dtype=torch.float64)
    X = x.flatten(2)
    Xc = X - X.mean(2, keepdim=True)
    (expected,) = torch.autograd.grad(newton_schulz(Xc @ Xc.mT / X.shape[2], iterations), x, G)
    Q = gcp.covariance_sqrt(x, rule="newton", iterations=iterations, side=side)
    (gradient,) = torch.autograd.grad(Q, x, G)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-11


@pytest.mark.parametrize("keep", [1, 2, 0.75])
def test_top_n(keep):
    """Forward: the truncated root. Backward: W of the formula, between the blocks too."""
    values = [3.0, 1.7, 0.6, 0.2]
    P, G, V = matrices(values)
    count = 3 if keep == 0.75 else keep
    r = torch.tensor([v**0.5 if i < count else 0.0 for i, v in enumerate(values)], dtype=torch.float64)
    W = 1 / (r[:, None] + r[None, :])
    W[count:, count:] = 0
    expected = V @ (W * (V.mT @ symmetric(G) @ V)) @ V.mT
    leaf = P.clone().requires_grad_()
    root = gcp.matrix_sqrt(leaf, rule="top_n", keep=keep)
    (gradient,) = torch.autograd.grad(root, leaf, G)
    assert float((root - (V * r) @ V.mT).norm()) < 1e-13
    assert float((gradient - expected).norm() / expected.norm()) < 1e-12


def test_top_n_counts_fractions_of_the_channels_on_either_side():
    """6 samples of 10 channels: half of the channels is 5 eigenvalues, not 3."""
    x = torch.randn(1, 10, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for side in ("channel", "sample"):
        Q = gcp.covariance_sqrt(x, rule="top_n", keep=0.5, side=side)
        assert int((torch.linalg.eigvalsh(Q) > 1e-9).sum()) == 5
        Q = gcp.covariance_sqrt(x, rule="top_n", keep=0.3, side=side)
        assert int((torch.linalg.eigvalsh(Q) > 1e-9).sum()) == 3
