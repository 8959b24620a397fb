"""Coupled iterations and polynomials with their tangents, against scalars and automatic differentiation."""

import math

import mpmath
import pytest
import torch

from gcp.ops import newton_schulz, polar_express
from gcp.ops.polar_express import sign_quintics
from gcp.ops.products import horner, horner_tangent, pade_root, taylor_root

QUINTICS = sign_quintics(5e-3, 6)[0]


def matrix(values=(0.9, 0.5, 0.21, 0.04, 1e-3)):
    generator = torch.Generator().manual_seed(0)
    n = len(values)
    V = torch.linalg.qr(torch.randn(2, n, n, generator=generator, dtype=torch.float64)).Q
    E = torch.randn(2, n, n, generator=generator, dtype=torch.float64)
    values = torch.tensor(values, dtype=torch.float64)
    return (V * values) @ V.mT, E + E.mT, V, values


def on_eigenvalues(f, V, values):
    return (V * torch.tensor([f(float(v)) for v in values], dtype=torch.float64)) @ V.mT


def scalar_newton_schulz(a, steps):
    y, z = a, 1.0
    for _ in range(steps):
        t = (3 - z * y) / 2
        y, z = y * t, z * t
    return y, z


def scalar_polar_express(a):
    y, z = a, 1.0
    for p, q, r in QUINTICS:
        t = p + q * z * y + r * (z * y) ** 2
        y, z = y * t, z * t
    return y, z


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_newton_schulz(steps):
    A, _, V, values = matrix()
    Y = on_eigenvalues(lambda a: scalar_newton_schulz(a, steps)[0], V, values)
    Z = on_eigenvalues(lambda a: scalar_newton_schulz(a, steps)[1], V, values)
    torch.testing.assert_close(newton_schulz.root(A, steps), Y, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(newton_schulz.inverse_root(A, steps), Z, rtol=1e-11, atol=1e-12)


def test_polar_express():
    A, _, V, values = matrix()
    Y, Z = polar_express.roots(A, A @ A, QUINTICS)
    torch.testing.assert_close(
        Y, on_eigenvalues(lambda a: scalar_polar_express(a)[0], V, values), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(
        Z, on_eigenvalues(lambda a: scalar_polar_express(a)[1], V, values), rtol=1e-11, atol=1e-10
    )


def test_polar_express_resolves_down_to_its_bound():
    for value in (5e-3**2, 1e-4, 1e-2, 1.0):
        assert scalar_polar_express(value)[0] == pytest.approx(math.sqrt(value), rel=1e-10)
    assert polar_express.null_inverse_root(QUINTICS) == pytest.approx(scalar_polar_express(0.0)[1])


@pytest.mark.parametrize(("fraction", "factor"), [(0.5, 0.99), (0.3, 0.87), (0.1, 0.38)])
def test_damping_below_the_bound(fraction, factor):
    value = (fraction * 5e-3) ** 2
    assert scalar_polar_express(value)[0] / math.sqrt(value) == pytest.approx(factor, abs=0.01)


def test_spectral_bound_is_a_bound():
    A, _, _, values = matrix()
    n, scaled, square = polar_express.normalise(A)
    assert torch.allclose(scaled * n[:, None, None], A, rtol=1e-14, atol=0)
    assert torch.allclose(square, scaled @ scaled, rtol=1e-13, atol=1e-15)
    assert n.tolist() == pytest.approx([1.01 * float(values.pow(4).sum()) ** 0.25] * 2)
    identity = torch.eye(3, dtype=torch.float64)[None]
    assert float(polar_express.normalise(identity)[0]) >= 1


def difference(f, A, E, h=1e-6):
    return (f(A + h * E) - f(A - h * E)) / (2 * h)


TANGENTS = {
    "newton_schulz root": (lambda A, E: newton_schulz.root_tangent(A, E, 5), lambda A: newton_schulz.root(A, 5)),
    "newton_schulz inverse": (
        lambda A, E: newton_schulz.inverse_root_tangent(A, E, 5),
        lambda A: newton_schulz.inverse_root(A, 5),
    ),
    "polar_express root": (
        lambda A, E: polar_express.roots_tangent(A, A @ A, E, QUINTICS)[::2],
        lambda A: polar_express.roots(A, A @ A, QUINTICS)[0],
    ),
    "polar_express inverse": (
        lambda A, E: polar_express.roots_tangent(A, A @ A, E, QUINTICS)[1::2],
        lambda A: polar_express.roots(A, A @ A, QUINTICS)[1],
    ),
    "polynomial": (
        lambda A, E: horner_tangent(A, E, (0.3, -1.0, 2.0, 0.7)),
        lambda A: 0.3 * torch.eye(A.shape[1], dtype=A.dtype) - A + 2 * A @ A + 0.7 * A @ A @ A,
    ),
}


@pytest.mark.parametrize("name", TANGENTS)
def test_tangents(name):
    """Value and derivative in a symmetric direction; central differences are good to 1e-8."""
    tangent, function = TANGENTS[name]
    A, E, _, _ = matrix((0.9, 0.5, 0.31, 0.2))
    value, slope = tangent(A, E)
    torch.testing.assert_close(value, function(A), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(slope, difference(function, A, E), rtol=1e-6, atol=1e-6)


def test_root_gradient_of_a_zero_matrix():
    G = torch.ones(1, 3, 3, dtype=torch.float64)
    assert not newton_schulz.root_gradient(torch.zeros_like(G), G, 5).any()


def test_pade_root():
    """[5/5] of sqrt(1 - z), by mpmath from the Taylor series."""
    with mpmath.workdps(40):
        p, q = mpmath.pade(mpmath.taylor(lambda z: mpmath.sqrt(1 - z), 0, 10), 5, 5)
        numerator, denominator = pade_root(5)
        for value in (0.0, 1e-3, 0.2, 0.9, 1.0):
            expected = mpmath.polyval(p[::-1], 1 - mpmath.mpf(value)) / mpmath.polyval(q[::-1], 1 - mpmath.mpf(value))
            got = sum(c * value**i for i, c in enumerate(numerator))
            got /= sum(c * value**i for i, c in enumerate(denominator))
            assert got == pytest.approx(float(expected), rel=1e-13)
    assert numerator[0] / denominator[0] == pytest.approx(1 / 11)


def test_taylor_root():
    with mpmath.workdps(40):
        series = mpmath.taylor(lambda z: mpmath.sqrt(1 - z), 0, 10)
    assert taylor_root(10) == pytest.approx([float(c) for c in series], rel=1e-13)
    assert sum(taylor_root(10)) == pytest.approx(0.176, abs=5e-4)


def test_horner():
    A, _, V, values = matrix()
    got = horner(A, (1.0, -2.0, 0.5))
    torch.testing.assert_close(
        got, on_eigenvalues(lambda a: 1 - 2 * a + 0.5 * a * a, V, values), rtol=1e-13, atol=1e-14
    )
