r"""Newton-Schulz iteration for the square root and the inverse root, and its derivative.

For A with spectrum in [0, 1]:  T = (3 I - R)/2,  Y <- Y T,  Z <- Z T,  from Y = A, Z = I and the residual
R = Z Y = A. Everything is a polynomial in A and commutes, so R <- R T^2 = (9 R - 6 R^2 + R^3)/4 by itself.

The derivative of a polynomial at a symmetric matrix is its own adjoint, so the backward runs the tangent
recursion forward with the upstream gradient as direction E (at the start R' = E, Y' = E, Z' = 0):

    N = R R',  J = R (N + N^T/2),  Y' <- sym(T Y' - Y R'/2),  R' <- (9 R' - 6 (N + N^T) + J + J^T)/4

and the same with Z for Y. R and Y are made again on the way, so nothing of the iteration is kept and memory
does not depend on the number of steps. Source: Li, Xie, Wang and Gao, CVPR 2018 (arXiv:1712.01034), with
the trace as norm and five steps.
"""

import torch
from torch import Tensor

from gcp.ops.matrix import add_identity_, inverse_or_zero, sym, trace


def root(A: Tensor, iterations: int) -> Tensor:
    """Y (B, n, n) ~ A^(1/2) after `iterations` steps."""
    return _iterate(A, A, iterations)


def inverse_root(A: Tensor, iterations: int) -> Tensor:
    """Z (B, n, n) ~ A^(-1/2) after `iterations` steps."""
    return _iterate(A, None, iterations)


def root_tangent(A: Tensor, E: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Y and its derivative Y' in the symmetric direction E, both (B, n, n)."""
    return _tangent(A, E, A, iterations)


def inverse_root_tangent(A: Tensor, E: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Z and its derivative Z' in the symmetric direction E, both (B, n, n)."""
    return _tangent(A, E, None, iterations)


def _step(X: Tensor | None, R: Tensor, last: bool) -> tuple[Tensor, Tensor]:
    """X T and the next R; X is None for the identity, and R itself in the first step of a root."""
    R2 = R if last and X is not R else R @ R
    if X is None:
        X = add_identity_(-0.5 * R, 1.5)
    else:
        X = 1.5 * R - 0.5 * R2 if X is R else torch.baddbmm(X, X, R, beta=1.5, alpha=-0.5)
    return X, R if last else torch.baddbmm(2.25 * R - 1.5 * R2, R, R2, alpha=0.25)


def _iterate(A: Tensor, X: Tensor | None, iterations: int) -> Tensor:
    R = A
    for step in range(1, iterations + 1):
        X, R = _step(X, R, last=step == iterations)
    assert X is not None
    return X


def _tangent(A: Tensor, E: Tensor, X: Tensor | None, iterations: int) -> tuple[Tensor, Tensor]:
    R, dR, dX = A, E, E
    for step in range(1, iterations + 1):
        last = step == iterations
        N = R @ dR if not last or X is R else dR
        if X is None:
            dX = -0.5 * dR
        elif X is R:
            dX = 1.5 * dR - sym(N)
        else:
            dX = sym(torch.baddbmm(1.5 * dX - 0.5 * (R @ dX), X, dR, alpha=-0.5))
        if not last:
            dR = 2.25 * dR + sym(0.5 * (R @ (N + N.mT / 2)) - 3 * N)
        X, R = _step(X, R, last)
    assert X is not None
    return X, dX


def root_gradient(P: Tensor, G: Tensor, iterations: int) -> Tensor:
    """dL/dP (B, d, d) of sqrt(tau) Y_k(P / tau), tau = tr P, for a symmetric upstream gradient G."""
    inverse = inverse_or_zero(trace(P))
    A = P * inverse[:, None, None]
    Y, dY = root_tangent(A, G, iterations)
    c = (G * Y).sum((1, 2)) / 2 - (dY * A).sum((1, 2))
    return add_identity_(dY, c) * inverse.sqrt()[:, None, None]
