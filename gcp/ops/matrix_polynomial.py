r"""Matrix polynomials by Horner's scheme, with the derivative, and the two approximants of the square root.

Pade [m/m] of sqrt(l) at l = 1, in closed form with n = 2m + 1:  p = sum_i C(n, 2i) l^i,
q = sum_i C(n, 2i+1) l^i;  p(0)/q(0) = 1/n. Taylor of degree k at l = 1, in z = 1 - l:
sqrt(1 - z) = 1 - sum_j |C(1/2, j)| z^j. Both in Song, Sebe and Wang, ICLR 2022 (arXiv:2201.08663).
"""

from math import comb

from torch import Tensor

from gcp.ops.matrix import add_identity_

Coefficients = tuple[float, ...]


def pade_root(m: int) -> tuple[Coefficients, Coefficients]:
    """Numerator and denominator in l, lowest degree first."""
    n = 2 * m + 1
    p = tuple(float(comb(n, 2 * i)) for i in range(m + 1))
    return p, tuple(float(comb(n, 2 * i + 1)) for i in range(m + 1))


def taylor_root(degree: int) -> Coefficients:
    """Coefficients in z = 1 - l, lowest degree first."""
    series = [1.0]
    for j in range(1, degree + 1):
        series.append(series[-1] * (j - 1.5) / j)
    return tuple(series)


def horner(A: Tensor, coefficients: Coefficients) -> Tensor:
    """sum_i c_i A^i (B, n, n), coefficients lowest degree first, at least two."""
    value = add_identity_(coefficients[-1] * A, coefficients[-2])
    for c in reversed(coefficients[:-2]):
        value = add_identity_(A @ value, c)
    return value


def horner_tangent(A: Tensor, E: Tensor, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
    """The polynomial and its derivative in the symmetric direction E, both (B, n, n)."""
    value, slope = add_identity_(coefficients[-1] * A, coefficients[-2]), coefficients[-1] * E
    for c in reversed(coefficients[:-2]):
        slope = E @ value + A @ slope
        value = add_identity_(A @ value, c)
    return value, slope
