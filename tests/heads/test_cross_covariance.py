"""Cross-covariances of several heads: formula, gradient, normalisation."""

import pytest
import torch

import gcp
from gcp.heads.cross_covariance import largest_singular_value


def make(**options):
    torch.manual_seed(0)
    return gcp.create_head("cross_covariance", 5, heads=2, width=3, **options).double()


def tokens(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_formula():
    head, x = make(), tokens(2, 9, 5)
    W = head.projection.detach().view(2, 2, 3, 5)
    for b in range(2):
        X = (x[b] - x[b].mean(0)).T
        for h in range(2):
            Q = (W[0, h] @ X) @ (W[1, h] @ X).T / 9
            expected = Q / torch.linalg.matrix_norm(Q, 2).sqrt()
            torch.testing.assert_close(head(x)[b].view(2, 3, 3)[h], expected)
    assert head.out_features == 18


def test_largest_singular_value():
    Q = tokens(50, 7, 4)
    torch.testing.assert_close(largest_singular_value(Q)[:, 0, 0], torch.linalg.matrix_norm(Q, 2))
    equal = torch.eye(3, dtype=torch.float64)[None].requires_grad_()
    largest_singular_value(equal).sum().backward()
    torch.testing.assert_close(equal.grad.diagonal(dim1=1, dim2=2).sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("normalise", ["max_singular", "none"])
@pytest.mark.parametrize("shape", [(2, 9, 5), (2, 3, 5)])
def test_gradient(normalise, shape):
    head = make(normalise=normalise)
    assert torch.autograd.gradcheck(head, tokens(*shape).requires_grad_())


@pytest.mark.parametrize("scale", [0.0, 1e-18, 1e18])
def test_zero_and_extreme_features(scale):
    head = gcp.create_head("cross_covariance", 5, heads=2, width=3)
    x = (tokens(2, 9, 5).float() * scale).requires_grad_()
    out = head(x)
    out.sum().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()
