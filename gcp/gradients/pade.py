r"""`pade`: K by the diagonal Pade approximant [50/50] of 1/(1 - x), over a.

A Pade approximant of a rational function of lower degree is that function, so the folded form is the exact
gradient. The published form evaluates the published coefficients: they come from a Taylor series of 20
digits, whose rounding is what makes the (singular) [50/50] system solvable, and give 1/(1 - x) within 1e-9
up to x = 1 - 1e-6. Song, Sebe and Wang, ICCV 2021 (arXiv:2105.02498).
"""

from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from gcp.gradients.base import RULES, Published, Rule, signed_pairs

DEGREE = 50  # of numerator and denominator; the paper's choice
DIGITS = 20  # working precision of the published coefficients


@lru_cache(maxsize=1)
def coefficients() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Numerator and denominator of the published approximant, lowest degree first."""
    import mpmath  # comes with torch (through sympy); needed by the published form only

    with mpmath.workdps(DIGITS):
        series = mpmath.taylor(lambda x: mpmath.mpf(1) / (1 - x), 0, 2 * DEGREE)
        numerator, denominator = mpmath.pade(series, DEGREE, DEGREE)
    return tuple(map(float, numerator)), tuple(map(float, denominator))


def polynomial(x: Tensor, lowest_first: tuple[float, ...]) -> Tensor:
    """Horner's scheme, elementwise."""
    value = x.new_full((), lowest_first[-1]).expand_as(x)
    for coefficient in reversed(lowest_first[:-1]):
        value = value * x + coefficient
    return value


@RULES.register("pade", summary="Pade [50/50] of 1/(1-x) over a: exact", paper="Song et al., ICCV 2021")
@dataclass(frozen=True)
class Pade(Rule):
    """The Pade rule, exact in its folded form."""

    head = "svd_pade"
    kernel = "Exact"

    def published(self) -> "PublishedPade":
        return PublishedPade(*coefficients())


@dataclass(frozen=True)
class PublishedPade(Published):
    """The factor K with the published coefficients."""

    numerator: tuple[float, ...]
    denominator: tuple[float, ...]

    def factor(self, clamped: Tensor) -> Tensor:
        x, inverse = signed_pairs(clamped)
        x.diagonal(dim1=1, dim2=2).zero_()  # at x = 1 the approximant may be infinite, and inverse is 0 there
        return inverse * polynomial(x, self.numerator) / polynomial(x, self.denominator)
