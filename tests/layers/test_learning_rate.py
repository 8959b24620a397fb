"""The two optimal learning rates: against the best of many, and that `exact` never makes it worse."""

import pytest
import torch

from gcp.layers.learning_rate import exact_rate, paper_rate, unorthogonality


def pair(shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    W, L = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    return W / shape[-1] ** 0.5, L


def distance(W):
    """|W W^T - I|, entry by entry."""
    I = torch.eye(W.shape[0], dtype=torch.float64)  # noqa: E741
    return float((W.double() @ W.double().mT - I).square().sum().sqrt())


@pytest.mark.parametrize("lr", [0.03, 0.3, 3.0])
@pytest.mark.parametrize("shape", [(4, 9), (6, 6), (7, 3), (1, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_exact_is_the_best_of_many(shape, lr, seed):
    W, L = pair(shape, seed)
    rate = exact_rate(W, L, lr)
    assert 0 <= rate <= lr
    tried = [distance(W - float(eta) * L) for eta in torch.linspace(0, lr, 400, dtype=torch.float64)]
    assert distance(W - rate * L) <= min(tried) + 1e-12


def nasty():
    """Pairs (W, L) that could go wrong."""
    W, L = pair((5, 8), 0)
    Q = torch.linalg.qr(W.mT)[0].mT
    skew = L[:, :5] - L[:, :5].mT
    yield from {
        "zero direction": (W, 0 * L),
        "zero weight": (0 * W, L),
        "orthonormal": (Q, L),
        "orthonormal, along itself": (Q, Q),
        "tangential": (Q, skew @ Q),  # every step makes it worse, by the fourth power
        "towards": (W, W - Q),
        "away": (W, Q - W),
        "huge direction": (W, 1e18 * L),
        "tiny direction": (W, 1e-18 * L),
        "huge weight": (1e12 * W, L),
        "tiny weight": (1e-12 * W, L),
        "rank one": (W, L[:, :1] @ L[:1]),
        "one row": (W, torch.cat((L[:1], 0 * L[1:]))),
        "equal rows": (W[:1].repeat(5, 1), L),
        "itself": (W, W),
        "against itself": (W, -W),
    }.items()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lr", [1e-6, 0.1, 1.0, 1e6])
@pytest.mark.parametrize(("W", "L"), [case for _, case in nasty()], ids=[name for name, _ in nasty()])
def test_exact_never_makes_it_worse(W, L, lr, dtype):
    W, L = W.to(dtype), L.to(dtype)
    rate = exact_rate(W, L, lr)
    assert 0 <= rate <= lr
    assert distance(W.double() - rate * L.double()) <= distance(W) * (1 + 1e-12) + 1e-14


def test_exact_goes_all_the_way_where_the_way_leads_there():
    W, _ = pair((5, 8), 1)
    U, _, Vh = torch.linalg.svd(W, full_matrices=False)
    rate = exact_rate(W, W - U @ Vh, 10.0)
    assert rate == pytest.approx(1.0, abs=1e-6) and distance(W - rate * (W - U @ Vh)) < 1e-6
    assert exact_rate(W, W - U @ Vh, 0.25) == 0.25  # the cap
    assert exact_rate(W, U @ Vh - W, 0.25) == 0  # the other way: stand still


def test_exact_refuses_what_is_no_number():
    W, L = pair((3, 4), 2)
    assert exact_rate(W, L * torch.inf, 0.1) == 0


def test_paper_is_the_published_formula():
    """By hand: w = (1, 0, 0, 2), l = (1, 1, 0, 1): 5 * 3 / (5 * 3 + 2 * 9) = 15/33."""
    W, L = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert paper_rate(W, L, 1.0) == pytest.approx(15 / 33)
    assert paper_rate(W, L, 0.4) == 0.4  # not below lr
    assert paper_rate(W, -L, 0.4) == 0.4  # negative
    assert paper_rate(0 * W, L, 0.4) == paper_rate(W, 0 * L, 0.4) == 0.4


def test_paper_does_not_see_orthogonality():
    """An orthonormal W is left by as large a step as any: what `exact` is for."""
    W = torch.eye(3, 5, dtype=torch.float64)
    rate = paper_rate(W, W, 1.0)
    assert rate == pytest.approx(1 / 3) and distance(W - rate * W) > 0.9
    assert exact_rate(W, W, 1.0) == 0


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 6, 1, 1), (4, 2, 3, 3)])
def test_unorthogonality(shape):
    W = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    matrix = W.flatten(1)
    assert unorthogonality(W) == pytest.approx(distance(matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT))
