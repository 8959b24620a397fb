"""Newton-Schulz: equal to autograd through the plain iteration, without keeping any of it."""

import pytest
import torch

import gcp


def plain(x, iterations):
    """iSQRT-COV written down."""
    X = x.flatten(2)
    Xc = X - X.mean(2, keepdim=True)
    P = Xc @ Xc.mT / X.shape[2]
    identity = torch.eye(P.shape[1], dtype=P.dtype)
    tau = P.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    Y, Z = P / tau, identity.expand_as(P)
    for _ in range(iterations):
        T = (3 * identity - Z @ Y) / 2
        Y, Z = Y @ T, T @ Z
    return tau.sqrt() * Y


@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("iterations", [1, 2, 5, 8])
@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 12, 2, 4), (2, 9, 3, 3)])
def test_equal_to_autograd(shape, iterations, side):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    G = torch.randn(2, shape[1], shape[1], generator=generator, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    expected = plain(leaf, iterations)
    (expected_gradient,) = torch.autograd.grad(expected, leaf, G)
    leaf = x.clone().requires_grad_()
    Q = gcp.covariance_sqrt(leaf, solver="newton_schulz", iterations=iterations, side=side)
    (gradient,) = torch.autograd.grad(Q, leaf, G)
    assert float((Q - expected).norm() / expected.norm()) < 1e-12
    assert float((gradient - expected_gradient).norm() / expected_gradient.norm()) < 1e-12


@pytest.mark.parametrize("side", ["channel", "sample"])
def test_saves_no_more_for_twenty_steps_than_for_five(memory, side):
    x = torch.rand(2, 16, 5, 5).requires_grad_()
    sizes = [
        memory(lambda x, k=k: gcp.covariance_sqrt(x, solver="newton_schulz", iterations=k, side=side), x)
        for k in (5, 20)
    ]
    assert sizes[0] == sizes[1]
    assert sizes[0] <= x.numel() * 4 + 2 * 16 * 16 * 4 + 64


def test_matrix_gradient_is_that_of_the_iterations():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    P = A @ A.mT
    leaf = P.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda P: gcp.matrix_sqrt((P + P.mT) / 2, solver="newton_schulz"), leaf)
