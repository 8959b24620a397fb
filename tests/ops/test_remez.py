"""The composed minimax quintics: their uniform error, equioscillation, and the published figures."""

import math

import numpy
import pytest

from gcp.ops.polar_express import sign_quintics


def composed(x, coefficients):
    for a, b, c in coefficients:
        x = x * (a + x * x * (b + c * x * x))
    return x


def grid(lower):
    return numpy.geomspace(lower, 1, 400_001)


@pytest.mark.parametrize(("lower", "steps", "published"), [(1e-2, 5, 1.2e-6), (5e-3, 6, 2.8e-11), (1e-3, 7, 4.8e-10)])
def test_uniform_error(lower, steps, published):
    coefficients, error = sign_quintics(lower, steps)
    assert len(coefficients) == steps
    assert error == pytest.approx(published, rel=0.05)
    measured = numpy.abs(1 - composed(grid(lower), coefficients)).max()
    assert measured == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("lower", [0.01, 0.1, 0.5, 0.9])
def test_one_step_equioscillates(lower):
    """1 - p alternates between +-E at four points, which makes it the best quintic (Chebyshev)."""
    (quintic,), error = sign_quintics(lower, 1)
    residual = 1 - composed(grid(lower), [quintic])
    inner = numpy.flatnonzero(numpy.diff(numpy.sign(numpy.diff(residual)))) + 1
    extrema = residual[numpy.concatenate([[0], inner, [-1]])]
    assert len(extrema) == 4
    assert numpy.allclose(extrema, error * numpy.array([1, -1, 1, -1]), rtol=1e-5)


@pytest.mark.parametrize(("lower", "steps"), [(0.3, 1), (1e-2, 3)])
def test_no_other_quintic_is_better(lower, steps):
    """Perturbed last steps are worse: the last quintic is the minimax one where the others left it."""
    coefficients, error = sign_quintics(lower, steps)
    x = composed(grid(lower), coefficients[:-1])
    for i in range(3):
        for sign in (-1, 1):
            other = list(coefficients[-1])
            other[i] += sign * 1e-2 * error
            assert numpy.abs(1 - composed(x, [other])).max() > error


def test_steps_but_the_last_stay_at_most_one():
    """The next step starts from values in [m, 1]; above 1 the iteration diverges."""
    coefficients, _ = sign_quintics(5e-3, 6)
    x = numpy.linspace(0, 1, 100_001)
    for quintic in coefficients[:-1]:
        x = composed(x, [quintic])
        assert x.max() <= 1 + 1e-12 and x.min() >= 0


def test_an_interval_that_has_shrunk_to_a_point():
    coefficients, error = sign_quintics(0.5, 12)
    assert error < 1e-15 and all(math.isfinite(c) for step in coefficients for c in step)
    assert coefficients[-1] == pytest.approx((15 / 8, -10 / 8, 3 / 8))
    assert numpy.abs(1 - composed(grid(0.5), coefficients)).max() < 1e-14
