"""Heads whose gradient is exact, against finite differences in float64."""

import pytest
import torch

import gcp


@pytest.mark.parametrize("shape", [(2, 3, 3, 2), (2, 6, 2, 2), (1, 4, 2, 2)], ids=["M>d", "M<d", "M=d"])
@pytest.mark.parametrize("side", ["channel", "sample"])
def test_gradcheck(exact_head, features, shape, side):
    if not exact_head.takes("side") and side == "sample":
        return
    head = exact_head(shape[1], side=side) if exact_head.takes("side") else exact_head(shape[1])
    x = features(*shape, mean=0.3).requires_grad_()
    # a null eigenvalue leaves 1e-16 times 3^9 in the output of nine Halley steps
    eps = 1e-5 if "halley" in str(exact_head) else 1e-6
    assert torch.autograd.gradcheck(head, x, eps=eps, atol=1e-6, rtol=1e-5)


def test_gradcheck_through_the_reduction(exact_head, features):
    """M = 4 < dim = 6 leaves a root of low rank behind the ReLU; a shift keeps it away from its kinks."""
    head = exact_head(3, dim=6).double().eval()
    with torch.no_grad():
        (head.expansion[0] if exact_head.name == "wide_average" else head.reduction[1]).bias += 3
    x = features(1, 3, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(head, x, eps=1e-6, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (1, 4, 2, 2)])
def test_gradcheck_at_repeated_eigenvalues(exact_head, shape):
    """Orthogonal centred rows of equal norm: the covariance is a multiple of the identity on its range."""
    if exact_head.name in ("bilinear", "compact_bilinear", "svd_original", "svd_trunc"):
        return  # kinks at zero; and the two rules that are 0 between equal eigenvalues
    d, M = shape[1], shape[2] * shape[3]
    if exact_head.options.get("values", 1) > 1:
        return  # what is left by the first of equal singular values has no direction of its own
    if exact_head.name == "second_moment" and d == M:
        return  # a centred map has one dimension less than it could have without centring: a kink
    rows = min(d, M - 1)
    basis = torch.linalg.qr(torch.cat([torch.ones(M, 1), torch.eye(M)], 1).double()).Q[:, 1 : rows + 1].T
    x = torch.zeros(d, M, dtype=torch.float64)
    x[:rows] = basis
    mix = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    x = (mix @ x).reshape(shape).requires_grad_()
    assert torch.autograd.gradcheck(exact_head(d), x, eps=1e-6, atol=2e-6, rtol=1e-5)


def test_gradcheck_of_the_default_sketch(features):
    """Most of its buckets are met by no pair of channels: they are zero, and not on the step of the signed root."""
    x, head = features(1, 3, 2, 2, mean=0.3).requires_grad_(), gcp.create_head("compact_bilinear", 3)
    met = head(x)[0].nonzero().flatten()
    assert 0 < len(met) <= 9
    assert torch.autograd.gradcheck(lambda x: head(x)[:, met], x, eps=1e-6, atol=1e-6, rtol=1e-5)
    others = torch.ones(head.out_features, dtype=torch.bool)
    others[met] = False
    for shifted in (x, x + 1e-3, -2 * x):  # a difference quotient of theirs is zero, and so is their gradient
        assert not head(shifted)[:, others].any()
    assert not torch.autograd.grad(head(x)[:, others].sum(), x)[0].any()
