r"""Newton-Schulz iteration for the square root and the inverse root, and its derivative.

For A with spectrum in [0, 1]:  T = (3 I - R)/2,  Y <- Y T,  Z <- Z T,  from Y = A, Z = I and the residual
R = Z Y = A. Everything is a polynomial in A and commutes, so R <- R T^2 = (9 R - 6 R^2 + R^3)/4 by itself.

The derivative of a polynomial at a symmetric matrix is its own adjoint, so the backward runs the tangent
recursion forward with the upstream gradient as direction E (at the start R' = E, Y' = E, Z' = 0):

    N = R R',  J = R (N + N^T/2),  Y' <- sym(T Y' - Y R'/2),  R' <- (9 R' - 6 (N + N^T) + J + J^T)/4

and the same with Z for Y. R and Y are made again on the way, so nothing of the iteration is kept and memory
does not depend on the number of steps. Source: Li, Xie, Wang and Gao, CVPR 2018 (arXiv:1712.01034), with
the trace as norm and five steps. `products` is how the products of the iteration are rounded (`gcp.ops.products`).
"""

from torch import Tensor

from gcp.ops.numerics import add_identity_, inverse_or_zero, sym, trace
from gcp.ops.products import product, product_plus


def root(A: Tensor, iterations: int, products: str = "full") -> Tensor:
    """Y (B, n, n) ~ A^(1/2) after `iterations` steps."""
    return _iterate(A, A, iterations, products)


def inverse_root(A: Tensor, iterations: int, products: str = "full") -> Tensor:
    """Z (B, n, n) ~ A^(-1/2) after `iterations` steps."""
    return _iterate(A, None, iterations, products)


def root_tangent(A: Tensor, E: Tensor, iterations: int, products: str = "full") -> tuple[Tensor, Tensor]:
    """Y and its derivative Y' in the symmetric direction E, both (B, n, n)."""
    return _tangent(A, E, A, iterations, products)


def inverse_root_tangent(A: Tensor, E: Tensor, iterations: int, products: str = "full") -> tuple[Tensor, Tensor]:
    """Z and its derivative Z' in the symmetric direction E, both (B, n, n)."""
    return _tangent(A, E, None, iterations, products)


def _step(X: Tensor | None, R: Tensor, last: bool, products: str) -> tuple[Tensor, Tensor]:
    """X T and the next R; X is None for the identity, and R itself in the first step of a root."""
    R2 = R if last and X is not R else product(R, R, products)
    if X is None:
        X = add_identity_(-0.5 * R, 1.5)
    else:
        X = 1.5 * R - 0.5 * R2 if X is R else product_plus(X, X, R, 1.5, -0.5, products)
    return X, R if last else product_plus(2.25 * R - 1.5 * R2, R, R2, 1.0, 0.25, products)


def _iterate(A: Tensor, X: Tensor | None, iterations: int, products: str) -> Tensor:
    R = A
    for step in range(1, iterations + 1):
        X, R = _step(X, R, step == iterations, products)
    assert X is not None
    return X


def _tangent(A: Tensor, E: Tensor, X: Tensor | None, iterations: int, products: str) -> tuple[Tensor, Tensor]:
    R, dR, dX = A, E, E
    for step in range(1, iterations + 1):
        last = step == iterations
        N = product(R, dR, products) if not last or X is R else dR
        if X is None:
            dX = -0.5 * dR
        elif X is R:
            dX = 1.5 * dR - sym(N)
        else:
            dX = sym(product_plus(1.5 * dX - 0.5 * product(R, dX, products), X, dR, 1.0, -0.5, products))
        if not last:
            dR = 2.25 * dR + sym(0.5 * product(R, N + N.mT / 2, products) - 3 * N)
        X, R = _step(X, R, last, products)
    assert X is not None
    return X, dX


def root_gradient(P: Tensor, G: Tensor, iterations: int) -> Tensor:
    """dL/dP (B, d, d) of sqrt(tau) Y_k(P / tau), tau = tr P, for a symmetric upstream gradient G."""
    inverse = inverse_or_zero(trace(P))
    A = P * inverse[:, None, None]
    Y, dY = root_tangent(A, G, iterations)
    c = (G * Y).sum((1, 2)) / 2 - (dY * A).sum((1, 2))
    return add_identity_(dY, c) * inverse.sqrt()[:, None, None]
