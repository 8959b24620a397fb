r"""Minimax odd quintics for the sign function, by the Remez exchange.

p(x) = a x + b x^3 + c x^5 with the smallest max |1 - p| on [m, 1]. The error alternates at four points
m < q < r < 1, where q and r are the zeros of p'. A composition takes each next quintic on the interval that
the one before left, which is the best composition there is (Amsel, Persson, Musco and Gower 2025,
arXiv:2505.16932). Computed with 50 digits: near the end the error is 1e-11 of values near one.
"""

from decimal import Decimal, localcontext
from functools import lru_cache

DIGITS = 50
Coefficients = tuple[float, float, float]


def _solve(rows: list[list[Decimal]]) -> list[Decimal]:
    """Gaussian elimination with pivoting of an augmented matrix."""
    n = len(rows)
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(i + 1, n):
            factor = rows[k][i] / rows[i][i]
            rows[k] = [x - factor * y for x, y in zip(rows[k], rows[i], strict=True)]
    solution = [Decimal(0)] * n
    for i in reversed(range(n)):
        known = sum((rows[i][j] * solution[j] for j in range(i + 1, n)), Decimal(0))
        solution[i] = (rows[i][n] - known) / rows[i][i]
    return solution


def _quintic(m: Decimal) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """a, b, c and the error E of the minimax quintic on [m, 1]; p ranges over [1 - E, 1 + E]."""
    q, r = (3 * m + 1) / 4, (m + 3) / 4
    for _ in range(100):
        points = [m, q, r, Decimal(1)]
        rows = [[x, x**3, x**5, Decimal((-1) ** i), Decimal(1)] for i, x in enumerate(points)]
        a, b, c, error = _solve(rows)
        # extrema: 5 c x^4 + 3 b x^2 + a = 0
        root = (9 * b * b - 20 * a * c).sqrt()
        q_next, r_next = sorted(((-3 * b + sign * root) / (10 * c)).sqrt() for sign in (-1, 1))
        moved = max(abs(q_next - q), abs(r_next - r))
        q, r = q_next, r_next
        if moved < Decimal(10) ** -20:
            break
    return a, b, c, error


@lru_cache(maxsize=32)
def sign_quintics(lower: float, steps: int) -> tuple[tuple[Coefficients, ...], float]:
    """Coefficients (a, b, c) of `steps` composed quintics on [lower, 1], and their uniform error.

    Every step but the last is scaled so that its largest value is 1, which the next one starts from.
    """
    composition: list[Coefficients] = []
    with localcontext() as context:
        context.prec = DIGITS
        m, error = Decimal(repr(lower)), Decimal(1)
        for step in range(steps):
            if 1 - m < Decimal(10) ** -12:  # the interval has shrunk to a point: the limit of the quintics
                a, b, c, error = Decimal(15) / 8, Decimal(-10) / 8, Decimal(3) / 8, Decimal(0)
            else:
                a, b, c, error = _quintic(m)
            scale = 1 if step + 1 == steps else 1 + error
            composition.append((float(a / scale), float(b / scale), float(c / scale)))
            m = (1 - error) / (1 + error)
    return tuple(composition), float(error)
