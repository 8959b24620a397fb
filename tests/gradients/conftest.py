"""An oracle with 50 digits: the published factor K times the difference of the roots, without any closed form."""

import mpmath
import pytest

DIGITS = 60
ZERO = mpmath.mpf(0)


def exact(a, b, _):
    """Off the diagonal; equal eigenvalues are the limit."""
    if a == b:
        return 1 / (2 * mpmath.sqrt(a))
    return (mpmath.sqrt(a) - mpmath.sqrt(b)) / (a - b)


def original(a, b, _):
    return ZERO if a == b else (mpmath.sqrt(a) - mpmath.sqrt(b)) / (a - b)


def taylor(a, b, options):
    """K = sum_{i <= k} x^i / a: zero times a finite factor where a = b."""
    if b == 0:
        return 1 / mpmath.sqrt(a)
    K = sum((b / a) ** i for i in range(options.get("degree", 100) + 1)) / a
    return K * (mpmath.sqrt(a) - mpmath.sqrt(b))


def power_iteration(a, b, options):
    k = options.get("iterations", 19)
    return (1 + (b / a) ** (mpmath.mpf(2 * k - 1) / 2)) / (mpmath.sqrt(a) + mpmath.sqrt(b))


def truncate(a, b, options):
    t = mpmath.mpf(options.get("threshold", 1e10))
    if a == b:
        return ZERO
    return min(1 / (a - b), t) * (mpmath.sqrt(a) - mpmath.sqrt(b))


PAIRS = {
    "exact": exact,
    "original": original,
    "pade": exact,
    "taylor": taylor,
    "power_iteration": power_iteration,
    "truncate": truncate,
}


def pairwise(eigenvalues, weight, options):
    def entry(i, j):
        a, b = max(eigenvalues[i], eigenvalues[j]), min(eigenvalues[i], eigenvalues[j])
        if a == 0:
            return ZERO
        return 1 / (2 * mpmath.sqrt(a)) if i == j else weight(a, b, options)

    n = len(eigenvalues)
    return [[entry(i, j) for j in range(n)] for i in range(n)]


def top_n(eigenvalues, keep):
    """Exact among the kept, 1/sqrt(kept) across, 0 among the dropped; the first of equal ones is kept."""
    n = len(eigenvalues)
    count = max(1, round(keep * n)) if isinstance(keep, float) and keep <= 1 else min(int(keep), n)
    kept = sorted(range(n), key=lambda i: -eigenvalues[i])[:count]
    cut = [eigenvalues[i] if i in kept else ZERO for i in range(n)]
    return pairwise(cut, exact, {})


def newton_scalar(a, iterations):
    y, z = a, mpmath.mpf(1)
    for _ in range(iterations):
        t = (3 - z * y) / 2
        y, z = y * t, z * t
    return y


def newton(eigenvalues, iterations):
    """Divided differences as differences: 200 digits stand against the cancellation."""
    with mpmath.workdps(200):
        tau = sum(eigenvalues)
        shift = mpmath.mpf(10) ** -80

        def entry(i, j):
            a, b = eigenvalues[i] / tau, eigenvalues[j] / tau
            if a == b == 0:
                return ZERO
            if a == b:
                a, b = a * (1 + shift), b * (1 - shift)
            return (newton_scalar(a, iterations) - newton_scalar(b, iterations)) / (a - b) / mpmath.sqrt(tau)

        n = len(eigenvalues)
        return [[entry(i, j) for j in range(n)] for i in range(n)]


def _weight(rule, values, **options):
    """W as a list of lists of mpf, for a list of floats."""
    with mpmath.workdps(DIGITS):
        eigenvalues = [mpmath.mpf(value) for value in values]
        if rule == "newton":
            return newton(eigenvalues, options.get("iterations", 10))
        if rule == "top_n":
            return top_n(eigenvalues, options.get("keep", 206 / 256))
        return pairwise(eigenvalues, PAIRS[rule], options)


@pytest.fixture
def oracle():
    """oracle(rule, eigenvalues, **options) -> W in high precision."""
    return _weight
