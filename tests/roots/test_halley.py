"""Halley steps: the exact root of ill-conditioned and singular covariances."""

import pytest
import torch

import gcp
from gcp.solvers import create_root


def run(x, **options):
    x = x.clone().requires_grad_()
    Q = gcp.covariance_sqrt(x, solver="halley", **options)
    G = torch.randn(Q.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(Q.dtype)
    return Q.detach(), torch.autograd.grad(Q, x, G)[0], G


def error(got, expected):
    return float((got.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(("condition", "limit"), [(1e2, 1e-6), (1e4, 1e-6), (1e6, 1e-5)])
@pytest.mark.parametrize(("d", "side"), [(64, 7), (24, 14)])
def test_accuracy(features_of, exact, d, side, condition, limit):
    x = features_of(d, side, torch.logspace(0, -torch.tensor(condition).log10(), min(d, side * side - 1)), batch=2)
    Q, gradient, G = run(x)
    expected, expected_gradient = exact(x, G)
    assert Q.dtype == torch.float32
    assert error(Q, expected) < limit and error(gradient, expected_gradient) < limit


@pytest.mark.parametrize(("kind", "limit"), [("twins", 1e-6), ("rank one", 1e-6), ("dead", 1e-6)])
@pytest.mark.parametrize("side", ["channel", "sample"])
def test_singular(exact, kind, limit, side):
    x = torch.rand(2, 16, 5, 5, generator=torch.Generator().manual_seed(0))
    if kind == "twins":
        x[:, 3] = x[:, 4]
    elif kind == "dead":
        x[:, ::2] = 0.3
    else:
        x = (64 * x).round()  # products of small whole numbers, so that rounding leaves the rank at one
        x = x[:, :, :1, :1] * x[:, :1] / 64**2
    Q, gradient, G = run(x, side=side)
    expected, expected_gradient = exact(x, G)
    assert error(Q, expected) < limit and error(gradient, expected_gradient) < limit


@pytest.mark.parametrize(("iterations", "dtype"), [(6, torch.float32), (7, torch.float64)])
def test_six_steps_stay_in_float32(iterations, dtype):
    root = create_root(solver="halley", options={"iterations": iterations})
    assert root.plan(torch.rand(1, 4, 3, 3))[2] == dtype


def test_few_steps_in_float32_stay_finite_on_maps_of_low_rank():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 32, 1, 1, generator=generator) * torch.rand(2, 1, 14, 14, generator=generator)
    Q, gradient, _ = run(x, iterations=6)
    assert Q.isfinite().all() and gradient.isfinite().all() and float(gradient.norm()) < 1e3
