"""Heads that put something cheaper, or sparser, in the place of the root: against their definitions."""

import pytest
import torch
from torch.nn import functional

import gcp
from gcp.errors import OptionError
from gcp.heads import check_options, create_head


def normal(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def uneven(B, d):
    """Float32 features of channels with variances far apart, so that a share of them is dropped."""
    scales = normal(d, 1, 1).mul(1.5).exp()
    return (normal(B, d, 5, 5) * scales).float()


def covariance(x):
    X = x.flatten(2) - x.flatten(2).mean(2, keepdim=True)
    return X @ X.mT / X.shape[2]


def triangle(P):
    rows, columns = torch.triu_indices(P.shape[1], P.shape[1])
    return P[:, rows, columns]


def agree(head, definition, x, rtol=1e-9):
    """Output and gradient."""
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = head(leaf), definition(other)
    torch.testing.assert_close(out, expected, rtol=rtol, atol=1e-12)
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,), (wanted,) = torch.autograd.grad(out, leaf, g), torch.autograd.grad(expected, other, g)
    torch.testing.assert_close(gradient, wanted, rtol=rtol, atol=1e-11)


# ---- drop_cov ----


def test_drop_cov_is_the_covariance_in_evaluation():
    x = normal(2, 6, 3, 3)
    assert torch.equal(create_head("drop_cov", 6).eval()(x), create_head("covariance", 6)(x))


def test_drop_cov_rate_and_channels():
    x, head = uneven(64, 32), create_head("drop_cov", 32)
    head.importance.data = torch.tensor([[[0.1, -0.2, 0.3]]])
    y = functional.conv1d(x.mean((2, 3))[:, None], head.importance.detach(), padding=1).softmax(2)[:, 0]
    scaled = x * (1 + y)[:, :, None, None]
    cosine = functional.cosine_similarity(y, covariance(scaled).sum(2), dim=1).mean()
    rate = 1 - 10 / 5 * cosine
    torch.manual_seed(0)
    dropped = head.drop(x)
    live = dropped.abs().amax((2, 3)) > 0
    assert 0.1 < float(rate) < 0.9
    torch.testing.assert_close(head.rate(scaled, y), rate)
    assert float((~live).float().mean()) == pytest.approx(float(rate), abs=0.05)
    kept = live[:, :, None, None].expand_as(x)
    torch.testing.assert_close(dropped[kept], scaled[kept] / (1 - rate), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("importance", [[0.0, 1.0, 0.0], [3.0, -2.0, 1.0], [0.0, 0.0, 0.0]])
def test_drop_cov_trains(importance):
    """Finite whatever the rate, and the importance learns."""
    head = create_head("drop_cov", 8)
    head.importance.data = torch.tensor([[importance]])
    x = normal(4, 8, 3, 3, dtype=torch.float32).requires_grad_()
    torch.manual_seed(0)
    head(x).square().sum().backward()
    assert x.grad.isfinite().all() and head.importance.grad.isfinite().all() and head.importance.grad.any()


def test_drop_cov_is_drawn_from_the_global_generator():
    """So that a resumed run draws the same channels."""
    head, x = create_head("drop_cov", 32), uneven(4, 32)
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(head(x))
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])


@pytest.mark.parametrize("shape", [(2, 1, 3, 3), (0, 4, 3, 3), (1, 4, 2, 1)])
def test_drop_cov_of_little(shape):
    assert create_head("drop_cov", shape[1])(torch.rand(shape)).isfinite().all()


# ---- max_singular ----


def test_max_singular_at_convergence():
    """The largest eigenvalues to the power, the others over that of the last of them."""
    x, d = normal(2, 5, 4, 4), 5
    head = create_head("max_singular", d, values=2, iterations=100, exponent=0.3)

    def definition(x):
        values, V = torch.linalg.eigh(covariance(x))
        last = values[:, -2:-1]
        powers = torch.cat([values[:, :-2] / (last**0.7 + 1e-5), values[:, -2:] ** 0.3], 1)
        return triangle((V * powers[:, None]) @ V.mT)

    agree(head, definition, x, rtol=1e-5)


def test_max_singular_of_one_value_divides():
    x = normal(2, 5, 4, 4)
    P = covariance(x)
    largest = torch.linalg.eigvalsh(P)[:, -1]
    got = create_head("max_singular", 5, iterations=100)(x)
    torch.testing.assert_close(got, triangle(P / largest.sqrt()[:, None, None]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["zero", "rank one", "orthogonal to the start"])
@pytest.mark.parametrize("values", [1, 3])
def test_max_singular_of_degenerate_maps(kind, values):
    x = torch.zeros(1, 4, 3, 3, dtype=torch.float64)
    if kind == "rank one":
        x = normal(1, 4, 1, 1) * normal(1, 1, 3, 3)
    elif kind == "orthogonal to the start":
        x = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64)[None, :, None, None] * normal(1, 1, 3, 3)
    leaf = x.clone().requires_grad_()
    out = create_head("max_singular", 4, values=values)(leaf)
    out.square().sum().backward()
    assert out.isfinite().all() and leaf.grad.isfinite().all()


# ---- isice ----


def unrolled(x, sparsity, rate, steps):
    """The published steps by plain operations."""

    def inverse(A):
        tau = A.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        identity = torch.eye(A.shape[1], dtype=A.dtype)
        Y, Z = A / tau, identity.expand_as(A)
        for _ in range(7):
            T = (3 * identity - Z @ Y) / 2
            Y, Z = Y @ T, T @ Z
        return Z @ Z / tau

    P = covariance(x)
    ridge = 1e-9 * torch.eye(P.shape[1], dtype=P.dtype)
    S = P / P.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    L = inverse(S + ridge)
    for i in range(steps):
        t = rate * (1 - i / (steps - 1))
        D = S - inverse(L + ridge)
        above = (L.relu() - t * (D + sparsity)).relu()
        L = above - ((-L).relu() - t * (sparsity - D)).relu()
        L = (L + L.mT) / 2
    return triangle(L / L.diagonal(dim1=1, dim2=2).sum(1).sqrt()[:, None, None])


@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 9, 2, 3)])
@pytest.mark.parametrize("options", [{}, {"sparsity": 0.5, "rate": 0.3, "iterations": 8}])
def test_isice_is_the_published_steps(shape, options):
    values = {"sparsity": 0.01, "rate": 1.0, "iterations": 5} | options
    agree(create_head("isice", shape[1], **options), lambda x: unrolled(x, *values.values()), normal(*shape))


def test_isice_is_sparse_and_does_not_know_the_scale():
    x = normal(2, 12, 6, 6)
    strong = create_head("isice", 12, sparsity=20.0)(x)
    assert float((strong == 0).float().mean()) > 0.3
    for scale in (1e-3, 1e4):
        torch.testing.assert_close(create_head("isice", 12)(scale * x), create_head("isice", 12)(x))


# ---- low_rank_bilinear ----


def test_low_rank_bilinear():
    head, x = create_head("low_rank_bilinear", 5, factors=7).double(), normal(2, 5, 3, 4)
    U = head.factors.weight.flatten(1).detach()

    def definition(x):
        X = x.flatten(2)
        R = X @ X.mT / X.shape[2]
        z = ((U @ R) * U).sum(2)
        return functional.normalize((z + 1e-8).sqrt())

    agree(head, definition, x)
    assert torch.equal(create_head("low_rank_bilinear", 5, factors=7).double().factors.weight, head.factors.weight)
    assert create_head("low_rank_bilinear", 5).out_features == 512


def test_low_rank_bilinear_learns_its_factors():
    head = create_head("low_rank_bilinear", 5, factors=7)
    head(normal(2, 5, 3, 4, dtype=torch.float32))[:, 0].sum().backward()
    assert head.factors.weight.grad.any()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("max_singular", {"values": 0}, "option values of 'max_singular' is 0"),
        ("max_singular", {"exponent": 2.0}, "option exponent of 'max_singular' is 2.0"),
        ("isice", {"iterations": 1}, "option iterations of 'isice' is 1"),
        ("isice", {"sparsity": -1.0}, "option sparsity of 'isice' is -1.0"),
        ("low_rank_bilinear", {"factors": 0}, "option factors of 'low_rank_bilinear' is 0"),
        ("drop_cov", {"side": "sample"}, "head 'drop_cov' has no 'side'"),
    ],
)
def test_faults(name, options, message):
    with pytest.raises(OptionError, match=message):
        check_options(name, **options)


@pytest.mark.parametrize("name", ["max_singular", "isice"])
def test_double_backward_raises(name):
    x = normal(2, 4, 3, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(gcp.create_head(name, 4)(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        gradient.square().sum().backward()
