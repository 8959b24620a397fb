r"""A X + X A = C for symmetric A with spectrum in [m, 1] and symmetric C, by matrix products only.

The sign function of [[A, C], [0, -A]] is [[I, 2X], [0, -I]], and sign(f(B)) = sign(B) for every odd f that is
positive on (0, 1]. A `cubic_step` takes the minimax cubic f on [m, 1] and so replaces the equation by
one with the same solution and a better condition; `chebyshev` then solves it on the spectrum [2m, 2] of
X -> A X + X A, one product a step.
"""

import math

import torch
from torch import Tensor


def cubic_step(A: Tensor, C: Tensor, m: float) -> tuple[Tensor, Tensor, float]:
    """The equation after one minimax cubic a x + b x^3: new A, C and lower bound m."""
    s = 1 + m + m * m
    p = math.sqrt(s / 3)
    k = 2 / (s * m - m**3 + s * p - p**3)
    error = 1 - k * (s * m - m**3)
    a, b = k * s / (1 + error), -k / (1 + error)
    N = A @ C
    J = A @ (N - N.mT / 2)
    A2 = A @ A
    return torch.baddbmm(A, A, A2, beta=a, alpha=b), a * C + b * (J + J.mT), (1 - error) / (1 + error)


def chebyshev(A: Tensor, C: Tensor, m: float, tolerance: float) -> Tensor:
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
        E = torch.baddbmm(half, A, X, alpha=-1)  # the residual is E + E^T
        rho_next = 1 / (2 * theta - rho)
        gain = 2 * rho_next / radius if radius else 1 / centre
        step.mul_(rho_next * rho).add_(E, alpha=gain).add_(E.mT, alpha=gain)
        X.add_(step)
        rho = rho_next
    return X


def solve(A: Tensor, C: Tensor, m: float, tolerance: float) -> Tensor:
    """X (B, n, n) with A X + X A = C to a relative `tolerance`; spectrum of A in [m, 1], m > 0."""
    while m < 0.15:  # a cubic costs four products, and saves about as many Chebyshev steps at 0.2
        A, C, m = cubic_step(A, C, m)
    return chebyshev(A, C, m, tolerance)
