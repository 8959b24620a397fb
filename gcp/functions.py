r"""Functions of the spectrum: f(P) = V diag(f(l)) V^T of P = V diag(l) V^T.

The derivative needs the divided differences f[a, b] = (f(a) - f(b)) / (a - b), f[a, a] = f'(a), which cancel wherever
two eigenvalues are close. Here they do not: with a = max, b = min and t = log(b/a) = log1p(-(a - b)/a),

    sqrt            1 / (sqrt a + sqrt b)
    inverse_sqrt    -1 / (sqrt a sqrt b (sqrt a + sqrt b))
    power p         a^(p-1) expm1(p t) / expm1(t)
    log             t / (a expm1(t))
    inverse         -1 / (a b)

Daleckii and Krein 1965. To add a function, add a class and register it: values and differences are elementwise.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gcp.errors import OptionError
from gcp.options import build, defaults, option
from gcp.registry import Registry


@dataclass(frozen=True)
class SpectralFunction:
    """A monotone function of eigenvalues l >= 0; its fields are its options."""

    @property
    def finite_at_zero(self) -> bool:
        """Whether f(0) exists."""
        return True

    @property
    def increases(self) -> bool:
        """Whether the slope is positive, not negative."""
        return True

    def value(self, eigenvalues: Tensor) -> Tensor:
        """f(l)."""
        raise NotImplementedError

    def difference(self, left: Tensor, right: Tensor) -> Tensor:
        """f[left, right] in any order, the derivative where they are equal; infinite or NaN where there is none."""
        raise NotImplementedError


FUNCTIONS: Registry[type[SpectralFunction]] = Registry("function")


def function_options(name: str) -> dict[str, Any]:
    """Options of a function with their defaults."""
    return defaults(FUNCTIONS[name].obj)


def create_function(name: str, **options: Any) -> SpectralFunction:
    """The function `name` with its options; raises UnknownNameError or OptionError."""
    return build(FUNCTIONS[name].obj, name, options)


def _ordered(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The larger of two eigenvalues a, and t = log(b/a), exact where they are close; 0 where both are zero."""
    a = torch.maximum(left, right)
    return a, torch.log1p(-(left - right).abs() / torch.where(a > 0, a, 1))


def _quotient(numerator: Tensor, denominator: Tensor, limit: float) -> Tensor:
    """numerator / denominator, `limit` where both are zero."""
    return torch.where(denominator == 0, limit, numerator / torch.where(denominator == 0, 1, denominator))


@FUNCTIONS.register("sqrt", summary="square root")
@dataclass(frozen=True)
class Sqrt(SpectralFunction):
    """The root of the covariance, as the heads take it."""

    def value(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.sqrt()

    def difference(self, left: Tensor, right: Tensor) -> Tensor:
        return (left.sqrt() + right.sqrt()).reciprocal()


@FUNCTIONS.register("inverse_sqrt", summary="inverse square root: whitening")
@dataclass(frozen=True)
class InverseSqrt(SpectralFunction):
    """P^(-1/2)."""

    @property
    def finite_at_zero(self) -> bool:
        return False

    @property
    def increases(self) -> bool:
        return False

    def value(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.rsqrt()

    def difference(self, left: Tensor, right: Tensor) -> Tensor:
        p, q = left.sqrt(), right.sqrt()
        return -(p * q * (p + q)).reciprocal()


@FUNCTIONS.register("power", summary="power by an exponent", paper="Li et al., ICCV 2017")
@dataclass(frozen=True)
class Power(SpectralFunction):
    """P^exponent; 0.5 is the square root."""

    exponent: float = option(0.5, "exponent, not 0", minimum=-4, maximum=4)

    def __post_init__(self) -> None:
        if self.exponent == 0:
            raise OptionError("option exponent of 'power' is 0; allowed: a number from -4 to 4 but 0.")

    @property
    def finite_at_zero(self) -> bool:
        return self.exponent > 0

    @property
    def increases(self) -> bool:
        return self.exponent > 0

    def value(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues**self.exponent

    def difference(self, left: Tensor, right: Tensor) -> Tensor:
        a, t = _ordered(left, right)
        return a ** (self.exponent - 1) * _quotient(torch.expm1(self.exponent * t), torch.expm1(t), self.exponent)


@FUNCTIONS.register("log", summary="matrix logarithm: log-Euclidean", paper="Ionescu et al., ICCV 2015")
@dataclass(frozen=True)
class Log(SpectralFunction):
    """The logarithm of the matrix."""

    @property
    def finite_at_zero(self) -> bool:
        return False

    def value(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.log()

    def difference(self, left: Tensor, right: Tensor) -> Tensor:
        a, t = _ordered(left, right)
        return _quotient(t, torch.expm1(t), 1.0) / a


@FUNCTIONS.register("inverse", summary="inverse")
@dataclass(frozen=True)
class Inverse(SpectralFunction):
    """P^(-1)."""

    @property
    def finite_at_zero(self) -> bool:
        return False

    @property
    def increases(self) -> bool:
        return False

    def value(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.reciprocal()

    def difference(self, left: Tensor, right: Tensor) -> Tensor:
        return -(left * right).reciprocal()
