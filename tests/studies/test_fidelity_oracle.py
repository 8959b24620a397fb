"""The two oracles of the gradient against differences of a root that is found by iteration, in many digits."""

import mpmath
import pytest
import torch

from gcp.studies.fidelity.oracle import by_digits, by_svd, disagreement, upstream
from gcp.studies.fidelity.spectra import log_uniform, maps_with, pairs

STEP = mpmath.mpf(10) ** -20
DIRECTIONS = 3


def covariance(X):
    samples = X.cols
    means = [mpmath.fsum(X[row, :]) / samples for row in range(X.rows)]
    centred = mpmath.matrix(X.rows, samples)
    for row in range(X.rows):
        for column in range(samples):
            centred[row, column] = X[row, column] - means[row]
    return centred * centred.T / samples


def newton_root(P):
    """Denman and Beavers 1976: no eigenvector anywhere."""
    Y, Z = P, mpmath.eye(P.rows)
    for _ in range(20):  # quadratic; 9 to come near at a condition number of 1e4
        Y, Z = (Y + Z**-1) / 2, (Z + Y**-1) / 2
    return Y


def singular_root(P):
    values, V = mpmath.eigsy(P)
    return V * mpmath.diag([mpmath.sqrt(abs(value)) for value in values]) * V.T


def branch(P):
    """Q (1 + s) with s^2 = tr(P exp(-2P)), by the exponential of a matrix."""
    product = P * mpmath.expm(-2 * P)
    return newton_root(P) * (1 + mpmath.sqrt(mpmath.fsum(product[i, i] for i in range(P.rows))))


def differences(x, g, root, directions):
    """Central differences of <g, triangle of root(P)> in each of the directions."""
    places = torch.triu_indices(len(x), len(x)).T.tolist()

    def loss(X):
        Q = root(covariance(X))
        return mpmath.fsum(weight * Q[i, j] for weight, (i, j) in zip(g.tolist(), places, strict=True))

    X = mpmath.matrix(x.flatten(1).tolist())
    moves = [STEP * mpmath.matrix(direction.flatten(1).tolist()) for direction in directions]
    return torch.tensor([float((loss(X + move) - loss(X - move)) / (2 * STEP)) for move in moves], dtype=torch.float64)


def distance(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(
    ("eigenvalues", "channels", "side", "root", "scaled"),
    [
        (log_uniform(3, 1e4), 3, 2, newton_root, False),
        (pairs(3, 10.0, 1e-12), 3, 2, newton_root, False),
        (log_uniform(3, 10.0), 3, 2, branch, True),
        (log_uniform(3, 10.0), 4, 2, singular_root, False),  # fewer samples than channels: rank 3 all around
    ],
    ids=["spread", "close pair", "scaling branch", "singular"],
)
def test_gradient_is_the_limit_of_differences(eigenvalues, channels, side, root, scaled):
    x = maps_with(eigenvalues, channels, side, 1, seed=3)[0]
    g = upstream(channels, 1)
    directions = torch.randn(DIRECTIONS, *x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with mpmath.workdps(80):
        expected = differences(x, g, root, directions)
    digits, svd = by_digits(x, g, scaled), by_svd(x, g, scaled)
    assert distance((directions * digits.gradient).sum((1, 2, 3)), expected) < 1e-14, "rounding of float64 alone"
    assert distance((directions * svd.gradient).sum((1, 2, 3)), expected) < 1e-12
    with mpmath.workdps(50):
        Q = root(covariance(mpmath.matrix(x.flatten(1).tolist())))
        output = torch.tensor(
            [float(Q[i, j]) for i, j in torch.triu_indices(channels, channels).T.tolist()], dtype=torch.float64
        )
    assert distance(digits.output, output) < 1e-15 and distance(svd.output, digits.output) < 1e-14


@pytest.mark.parametrize(("condition", "bound"), [(1e0, 1e-14), (1e8, 1e-12), (1e14, 1e-9)])
def test_float64_is_trustworthy_up_to_its_root(condition, bound):
    """The float64 oracle loses the root of the condition number, not the condition number."""
    x = maps_with(log_uniform(6, condition), 6, 3, 1, seed=1)[0]
    assert disagreement(x, upstream(6, 2)) < bound


def test_zero_channels():
    x = maps_with(log_uniform(3, 100.0), 5, 3, 1, seed=1, zero=2)[0]
    exact = by_svd(x, upstream(5, 0))
    assert disagreement(x, upstream(5, 0)) < 1e-13
    assert bool(exact.gradient[3:].isfinite().all()) and float(exact.gradient[3:].abs().max()) > 0


def test_constant_map():
    x = torch.full((3, 2, 2), 0.25, dtype=torch.float64)
    for oracle in (by_svd, by_digits):
        for scaled in (False, True):
            exact = oracle(x, upstream(3, 0), scaled)
            assert float(exact.output.abs().max()) < 1e-20 and float(exact.gradient.abs().max()) == 0
