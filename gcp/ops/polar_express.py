r"""Square root and inverse root by minimax quintics in coupled form, and the derivative of the steps.

    R = Z Y,  T = a I + b R + c R^2,  Z <- T Z,  Y <- Y T,     from Y = A, Z = I

with the coefficients of `sign_quintics` for [lower, 1]: every eigenvalue of A in [lower^2, 1] is resolved with the
uniform error of the composition; smaller ones are damped (0.99, 0.87, 0.38 of the root at 0.5, 0.3, 0.1 of
`lower`), null ones give Y = 0 and Z = prod a. An eigenvalue above 1 diverges, so A = P / n with a true upper
bound n = 1.01 |P^2|_F^(1/2) >= l_max. Amsel, Persson, Musco and Gower 2025 (arXiv:2505.16932).
`products` is how the products of the steps are rounded (`gcp.ops.products`).

The coefficients are minimax odd quintics for the sign function, by the Remez exchange: p(x) = a x + b x^3 + c x^5
with the smallest max |1 - p| on [m, 1]. The error alternates at four points m < q < r < 1, where q and r are the zeros
of p'. A composition takes each next quintic on the interval that the one before left, which is the best composition
there is. Computed with 50 digits: near the end the error is 1e-11 of values near one.
"""

from decimal import Decimal, localcontext
from functools import lru_cache

import torch
from torch import Tensor

from gcp.ops.numerics import add_identity_, inverse_or_zero, sym, trace
from gcp.ops.products import product, product_plus

Coefficients = tuple[float, float, float]
Quintics = tuple[Coefficients, ...]  # of `sign_quintics`
MARGIN = 1.01  # rounding must not lift the largest eigenvalue above 1


def normalise(P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """n (B,) >= l_max for P (B, d, d), A = P / n, and A^2, which the first step needs anyway."""
    scale = inverse_or_zero(trace(P))[:, None, None]  # the fourth power of a small matrix underflows
    A = P * scale
    A2 = A @ A
    m = MARGIN * torch.linalg.matrix_norm(A2).sqrt()
    inverse = inverse_or_zero(m)[:, None, None]
    return trace(P) * m, A * inverse, A2 * (inverse * inverse)


def null_inverse_root(quintics: Quintics) -> float:
    """Prod a: what Z is on the null space."""
    product = 1.0
    for a, _, _ in quintics:
        product *= a
    return product


def roots(A: Tensor, A2: Tensor, quintics: Quintics, products: str = "full") -> tuple[Tensor, Tensor]:
    """Y ~ A^(1/2) and Z ~ A^(-1/2), both (B, n, n), for A with spectrum in [0, 1] and its square."""
    (a, b, c), *rest = quintics
    Z = add_identity_(b * A + c * A2, a)
    Y = product(A, Z, products)
    for a, b, c in rest:
        R = product(Z, Y, products)
        T = add_identity_(product_plus(R, R, R, b, c, products), a)
        Z, Y = product(T, Z, products), product(Y, T, products)
    # at the end only: it takes a factor of five off the gradient's error, and inside the loop it diverges
    return sym(Y), sym(Z)


def roots_tangent(
    A: Tensor, A2: Tensor, E: Tensor, quintics: Quintics, products: str = "full"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Y, Z and their derivatives Y', Z' in the symmetric direction E, all (B, n, n)."""
    (a, b, c), *rest = quintics
    dZ = b * E + 2 * c * sym(product(A, E, products))
    Z = add_identity_(b * A + c * A2, a)
    dY = sym(product(E, Z, products) + product(A, dZ, products))
    Y = product(A, Z, products)
    for a, b, c in rest:
        R = product(Z, Y, products)
        dR = sym(product(dZ, Y, products) + product(Z, dY, products))
        T = add_identity_(product_plus(R, R, R, b, c, products), a)
        dT = b * dR + 2 * c * sym(product(R, dR, products))
        dZ, dY = (
            sym(product(dT, Z, products) + product(T, dZ, products)),
            sym(product(dY, T, products) + product(Y, dT, products)),
        )
        Z, Y = product(T, Z, products), product(Y, T, products)
    return Y, Z, dY, dZ


DIGITS = 50


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
