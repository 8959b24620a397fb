r"""A X + X A = C for symmetric A with spectrum in [m, 1] and symmetric C, by matrix products only.

The sign function of [[A, C], [0, -A]] is [[I, 2X], [0, -I]], and sign(f(B)) = sign(B) for every odd f that is
positive on (0, 1]. A `cubic_step` takes the minimax cubic f on [m, 1] and so replaces the equation by
one with the same solution and a better condition; `chebyshev` then solves it on the spectrum [2m, 2] of
X -> A X + X A, one product a step.
"""

import math

from torch import Tensor

from gcp.ops.products import product, product_plus


def cubic_step(A: Tensor, C: Tensor, m: float, products: str = "full") -> tuple[Tensor, Tensor, float]:
    """The equation after one minimax cubic a x + b x^3: new A, C and lower bound m."""
    s = 1 + m + m * m
    p = math.sqrt(s / 3)
    k = 2 / (s * m - m**3 + s * p - p**3)
    error = 1 - k * (s * m - m**3)
    a, b = k * s / (1 + error), -k / (1 + error)
    N = product(A, C, products)
    J = product(A, N - N.mT / 2, products)
    A2 = product(A, A, products)
    return product_plus(A, A, A2, a, b, products), a * C + b * (J + J.mT), (1 - error) / (1 + error)


def chebyshev(A: Tensor, C: Tensor, m: float, tolerance: float, products: str = "full") -> Tensor:
    """X by the Chebyshev iteration, to a relative `tolerance`; spectrum of A in [m, 1]."""
    centre, radius = 1 + m, 1 - m  # of the spectrum [2m, 2]
    rate = (1 - math.sqrt(m)) / (1 + math.sqrt(m))
    count = max(1, math.ceil(math.log(tolerance / 2) / math.log(rate))) if rate > 0 else 1
    half = C / 2
    X = C / centre
    step = X.clone()
    theta = centre / radius if radius else math.inf
    rho = 1 / theta
    for _ in range(count):
        E = product_plus(half, A, X, 1.0, -1.0, products)  # the residual is E + E^T
        rho_next = 1 / (2 * theta - rho)
        gain = 2 * rho_next / radius if radius else 1 / centre
        step.mul_(rho_next * rho).add_(E, alpha=gain).add_(E.mT, alpha=gain)
        X.add_(step)
        rho = rho_next
    return X


def solve(A: Tensor, C: Tensor, m: float, tolerance: float, products: str = "full") -> Tensor:
    """X (B, n, n) with A X + X A = C to a relative `tolerance`; spectrum of A in [m, 1], m > 0."""
    while m < 0.15:  # a cubic costs four products, and saves about as many Chebyshev steps at 0.2
        A, C, m = cubic_step(A, C, m, products)
    return chebyshev(A, C, m, tolerance, products)
