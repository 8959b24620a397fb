r"""The exact gradient, twice, by ways that share nothing with the heads.

`by_svd`, float64: with Xc = V diag(s) U^T, Q = V diag(s) V^T / sqrt M and upstream gradient G,

    dL/dXc = (2/sqrt M) V [ (V^T G V) o F ] U^T,     F_ij = s_j / (s_i + s_j),    j over s_j > 0, i over all of V,

whose coefficients lie between 0 and 1: neither the covariance, which squares the condition number, nor a difference of
eigenvalues is formed. What is left is the rounding of the singular vectors, about eps times the root of the condition
number: 2e-9 at 1e14.

`by_digits`, 50 digits: eigenvectors of the covariance by mpmath, divided differences (f(a) - f(b))/(a - b) of f = sqrt
as they stand. 0.05 s for a map of 12 channels and growing with the cube, so for small maps only.

Both know the scaling eigen branch, Q (1 + s) with s^2 = sum_i l_i exp(-2 l_i), whose gradient is its own.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gcp.studies.fidelity.spectra import singular_values

DIGITS = 50
NULL = 1e-40  # relative: of the 50 digits, what is left of a zero
EQUAL = 1e-25  # relative: below it the divided difference is the derivative to as many digits


@dataclass(frozen=True)
class ExactGradient:
    """Upper triangle (T,) of Q or Q (1 + s), and the gradient (d, H, W) with respect to the map, in float64."""

    output: Tensor
    gradient: Tensor


def upstream(channels: int, seed: int) -> Tensor:
    """Standard normal gradient (T,) of a triangle, T = d(d+1)/2; float64 with values that float32 holds."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(channels * (channels + 1) // 2, generator=generator).double()


def symmetric(g: Tensor, channels: int) -> Tensor:
    """G (d, d) symmetric with <G, Q> = <g, triangle of Q>."""
    G = torch.zeros(channels, channels, dtype=torch.float64)
    rows, columns = torch.triu_indices(channels, channels)
    G[rows, columns] = g
    return (G + G.T) / 2


def triangle(Q: Tensor) -> Tensor:
    """Upper triangle (T,) of (d, d), row by row."""
    rows, columns = torch.triu_indices(*Q.shape)
    return Q[rows, columns]


def by_svd(x: Tensor, g: Tensor, scaled: bool = False) -> ExactGradient:
    """The exact root of the covariance of a map (d, H, W), or its scaling branch, with its gradient for g (T,)."""
    channels, samples = x.shape[0], x[0].numel()
    V, s, Uh, alive = (each[0] for each in singular_values(x[None]))
    s = s * alive
    if len(s) < channels:  # the rest of the space, for the pairs of a range vector with a null one
        V = _complete(V)
    every = torch.cat([s, s.new_zeros(channels - len(s))])
    G = symmetric(g, channels)
    pair = every[:, None] + s[None, :]
    F = torch.where(pair > 0, s[None, :] / torch.where(pair > 0, pair, 1), 0)
    S = V.T @ G @ V
    root = (V * every) @ V.T / samples**0.5
    gradient = 2 / samples**0.5 * V @ (S[:, : len(s)] * F) @ Uh
    if scaled:
        eigenvalues = s.square() / samples
        branch = float((eigenvalues * torch.exp(-2 * eigenvalues)).sum().sqrt())
        if branch > 0:
            slope = (1 - 2 * eigenvalues) * torch.exp(-2 * eigenvalues) / (2 * branch)
            own = float((G * root).sum()) * 2 / samples * (V[:, : len(s)] * (slope * s)) @ Uh
            gradient = (1 + branch) * gradient + own
        root = (1 + branch) * root
    return ExactGradient(triangle(root), gradient.reshape(x.shape))


def by_digits(x: Tensor, g: Tensor, scaled: bool = False) -> ExactGradient:
    """`by_svd` in 50 digits; the features are taken as the exact values of their float64 numbers."""
    import mpmath  # takes a moment to import

    channels, samples = x.shape[0], x[0].numel()
    with mpmath.workdps(DIGITS):
        X = mpmath.matrix(x.double().reshape(channels, samples).tolist())
        for row in range(channels):
            mean = mpmath.fsum(X[row, :]) / samples
            for column in range(samples):
                X[row, column] -= mean
        values, V = mpmath.eigsy(X * X.T / samples)
        null = NULL * max(abs(value) for value in values)
        values = [value if value > null else mpmath.mpf(0) for value in values]
        S = V.T * mpmath.matrix(symmetric(g, channels).tolist()) * V
        core = mpmath.matrix(channels, channels)
        for i, a in enumerate(values):
            for j, b in enumerate(values):
                core[i, j] = _quotient(mpmath, a, b) * S[i, j]
        roots = [mpmath.sqrt(value) for value in values]
        if scaled:
            branch = mpmath.sqrt(mpmath.fsum(value * mpmath.exp(-2 * value) for value in values))
            inner = mpmath.fsum(S[i, i] * root for i, root in enumerate(roots))
            core *= 1 + branch
            for i, value in enumerate(values):
                core[i, i] += inner * (1 - 2 * value) * mpmath.exp(-2 * value) / (2 * branch) if branch else 0
            roots = [root * (1 + branch) for root in roots]
        gradient = V * core * V.T * X * mpmath.mpf(2) / samples
        root = V * mpmath.diag(roots) * V.T
    return ExactGradient(triangle(_floats(root)), _floats(gradient).reshape(x.shape))


def _quotient(mpmath: Any, a: Any, b: Any) -> Any:
    """(sqrt a - sqrt b)/(a - b); 0 between two null eigenvalues, which meet Xc = 0."""
    if not a and not b:
        return mpmath.mpf(0)
    if abs(a - b) <= EQUAL * max(a, b):
        return 1 / (2 * mpmath.sqrt((a + b) / 2))
    return (mpmath.sqrt(a) - mpmath.sqrt(b)) / (a - b)


def _floats(A: Any) -> Tensor:
    return torch.tensor([[float(value) for value in A[row, :]] for row in range(A.rows)], dtype=torch.float64)


def _complete(V: Tensor) -> Tensor:
    """V (d, k) with orthonormal columns, and d - k more that complete them."""
    rest = torch.linalg.qr(V, mode="complete")[0][:, V.shape[1] :]
    return torch.cat([V, rest], 1)


def disagreement(x: Tensor, g: Tensor) -> float:
    """Relative difference between the gradients of both oracles for a map (d, H, W); absolute where they are zero."""
    digits = by_digits(x, g).gradient
    return float((by_svd(x, g).gradient - digits).norm() / (float(digits.norm()) or 1))
