r"""Square root and inverse root by minimax quintics in coupled form, and the derivative of the steps.

    R = Z Y,  T = a I + b R + c R^2,  Z <- T Z,  Y <- Y T,     from Y = A, Z = I

with the coefficients of `remez` for [lower, 1]: every eigenvalue of A in [lower^2, 1] is resolved with the
uniform error of the composition; smaller ones are damped (0.99, 0.87, 0.38 of the root at 0.5, 0.3, 0.1 of
`lower`), null ones give Y = 0 and Z = prod a. An eigenvalue above 1 diverges, so A = P / n with a true upper
bound n = 1.01 |P^2|_F^(1/2) >= l_max. Amsel, Persson, Musco and Gower 2025 (arXiv:2505.16932).
`products` is how the products of the steps are rounded (`gcp.ops.products`).
"""

import torch
from torch import Tensor

from gcp.ops.matrix import add_identity_, inverse_or_zero, sym, trace
from gcp.ops.products import product, product_plus
from gcp.ops.remez import Coefficients

Quintics = tuple[Coefficients, ...]  # of `remez.sign_quintics`
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


def roots_tangent(A: Tensor, A2: Tensor, E: Tensor, quintics: Quintics, products: str = "full") -> tuple[Tensor, ...]:
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
