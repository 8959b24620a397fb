"""Minimax steps in float32: the accuracy of the eigendecomposition, and the memory of the backward."""

import pytest
import torch

import gcp
from gcp.ops.polar_express import sign_quintics

QUINTICS = sign_quintics(5e-3, 6)[0]


def error(got, expected):
    return float((got.double() - expected).norm() / expected.norm())


def run(x, seed=1, **options):
    x = x.clone().requires_grad_()
    Q = gcp.covariance_sqrt(x, solver="polar_express", **options)
    G = torch.randn(Q.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(Q.dtype)
    return Q.detach(), torch.autograd.grad(Q, x, G)[0], G


MAPS = [(64, 7), (48, 7), (128, 7), (64, 14), (128, 14), (256, 14), (24, 14)]


@pytest.mark.parametrize(("condition", "limits"), [(1e2, (1e-5, 1e-4)), (1e3, (1e-5, 1e-4)), (1e4, (1e-5, 5e-4))])
@pytest.mark.parametrize(("d", "side"), MAPS)
def test_float32_accuracy(features_of, exact, d, side, condition, limits):
    """Log-uniform spectrum and a positive mean, as behind a ReLU; fewer and more samples than channels."""
    rank = min(d, side * side - 1)
    x = features_of(d, side, torch.logspace(0, -torch.tensor(condition).log10(), rank), batch=2)
    Q, gradient, G = run(x)
    assert Q.dtype == torch.float32
    expected, expected_gradient = exact(x, G)
    assert error(Q, expected) < limits[0]
    assert error(gradient, expected_gradient) < limits[1]


@pytest.mark.parametrize(("d", "side"), [(32, 14), (48, 7), (96, 7)])
def test_dead_channels(features_of, exact, d, side):
    """Null vectors along the axes, which rounding respects."""
    x = features_of(d, side, torch.logspace(0, -2, min(d, side * side - 1)), batch=2)
    x[:, :5] = 0.3
    Q, gradient, G = run(x)
    expected, expected_gradient = exact(x, G)
    assert error(Q, expected) < 1e-5
    assert error(gradient, expected_gradient) < 1e-4


@pytest.mark.parametrize(("kind", "limits"), [("twin channels", (1e-5, 1e-3)), ("half the rank", (1e-4, 5e-4))])
@pytest.mark.parametrize(("d", "side"), [(32, 14), (48, 7), (96, 7)])
def test_null_vectors_across_the_axes(features_of, exact, d, side, kind, limits):
    """The inverse root is 800 on the null space and amplifies rounding; much of it is a case for float64."""
    rank = min(d, side * side - 1)
    x = features_of(d, side, torch.logspace(0, -2, rank // 2 if kind == "half the rank" else rank), batch=2)
    if kind == "twin channels":
        x[:, 7] = x[:, 8]
    Q, gradient, G = run(x)
    expected, expected_gradient = exact(x, G)
    assert error(Q, expected) < limits[0]
    assert error(gradient, expected_gradient) < limits[1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rank", [1, 3])
def test_maps_of_low_rank(exact, rank, seed):
    """On the channel side, all but a few eigenvalues null: 2e-2 before the projection on the null space was cubic, 2e-3
    before the root of such maps was taken in float64.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 32, rank, generator=generator) @ torch.rand(2, rank, 196, generator=generator)
    x = x.reshape(2, 32, 14, 14)
    Q, gradient, G = run(x)
    expected, expected_gradient = exact(x, G)
    assert error(Q, expected) < 3e-4
    assert error(gradient, expected_gradient) < 5e-4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("d", "side"), [(48, 7), (32, 14)])
def test_half_of_the_channels_dead(exact, d, side, seed):
    """Features behind a ReLU that never fires for half of the channels; condition number about 100."""
    x = torch.rand(2, d, side, side, generator=torch.Generator().manual_seed(seed))
    x[:, ::2] = 0
    Q, gradient, G = run(x)
    expected, expected_gradient = exact(x, G)
    assert error(Q, expected) < 1e-5
    assert error(gradient, expected_gradient) < 1e-4


@pytest.mark.parametrize(("d", "side"), [(64, 7), (20, 7)])
def test_float64_reaches_the_uniform_error(features_of, exact, d, side):
    x = features_of(d, side, torch.logspace(0, -3, min(d, side * side - 1))).double()
    Q, gradient, G = run(x)
    expected, expected_gradient = exact(x, G)
    assert error(Q, expected) < 3e-11
    assert error(gradient, expected_gradient) < 1e-6


@pytest.mark.parametrize(("d", "side", "forced"), [(32, 4, "channel"), (8, 7, "sample")])
def test_the_larger_side_is_as_good(exact, d, side, forced):
    """It is singular, so it is computed in float64; the result must not be worse than float32 on the smaller one."""
    x = torch.rand(2, d, side, side, generator=torch.Generator().manual_seed(0))
    Q, gradient, G = run(x, side=forced)
    expected, expected_gradient = exact(x, G)
    assert error(Q, expected) < 1e-6
    assert error(gradient, expected_gradient) < 1e-6


def plain(x):
    """The same iteration, left to autograd: what a user would write."""
    X = x.flatten(2)
    Xc = X - X.mean(2, keepdim=True)
    M = X.shape[2]
    on_samples = X.shape[1] >= M
    K = (Xc.mT @ Xc if on_samples else Xc @ Xc.mT) / M
    n = 1.01 * (K @ K).square().sum((1, 2), keepdim=True) ** 0.25
    Y = K / n
    if on_samples:
        Y = Y + Y.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] / M**2
    identity = torch.eye(Y.shape[1], dtype=Y.dtype)
    Z = identity.expand_as(Y)
    for a, b, c in QUINTICS:
        R = Z @ Y
        T = a * identity + b * R + c * (R @ R)
        Z, Y = T @ Z, Y @ T
    return Xc @ Z @ Xc.mT / (M * n.sqrt()) if on_samples else n.sqrt() * Y


@pytest.mark.parametrize(("d", "side"), [(64, 14), (128, 14), (256, 14), (128, 28), (256, 28)])
def test_memory_of_the_backward(memory, d, side):
    """At most a quarter of what autograd keeps of the same iteration, the features counted on both sides."""
    x = torch.rand(1, d, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ours = memory(lambda x: gcp.covariance_sqrt(x, solver="polar_express"), x)
    theirs = memory(plain, x)
    assert torch.allclose(plain(x), gcp.covariance_sqrt(x, solver="polar_express"), rtol=0, atol=1e-4)
    assert ours <= theirs / 4, f"{ours / theirs:.3f}"


def test_saved_memory_does_not_grow_with_the_steps(memory):
    x = torch.rand(1, 16, 7, 7).requires_grad_()
    sizes = {memory(lambda x, k=k: gcp.covariance_sqrt(x, solver="polar_express", steps=k), x) for k in (3, 6, 9)}
    assert len(sizes) == 1
