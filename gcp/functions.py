r"""Functions of the spectrum: f(P) = V diag(f(l)) V^T of P = V diag(l) V^T.

The derivative needs the divided differences f[a, b] = (f(a) - f(b)) / (a - b), f[a, a] = f'(a), which cancel wherever
two eigenvalues are close. Here they do not: with a = max, b = min and t = log(b/a), by log1p(-(a - b)/a) where b is
more than half of a (below, 1 - (a - b)/a would lose the digits of b),

    sqrt            1 / (sqrt a + sqrt b)
    inverse_sqrt    -1 / (sqrt a sqrt b (sqrt a + sqrt b))
    power p         a^(p-1) expm1(p t) / expm1(t)
    log             t / (a expm1(t))
    inverse         -1 / (a b)

Daleckii and Krein 1965. To add a function, add a class and register it: values and differences are elementwise. For
a kernel on the GPU, name its functor in `gcp/kernels/heads.cu`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gcp.errors import OptionError
from gcp.options import build, defaults, option
from gcp.registry import Registry


@dataclass(frozen=True)
class SpectralFunction:
    """A monotone function of eigenvalues l >= 0; its fields are its options.

    `kernel` names the functor of `heads.cu` that computes its differences on a GPU; a subclass does not inherit it.
    """

    kernel: ClassVar[str | None] = None

    @property
    def kernel_parameter(self) -> float:
        """The number that the functor takes."""
        return 0.0

    @classmethod
    def of_kernel_parameter(cls, parameter: float) -> "SpectralFunction":
        """The function with this `kernel_parameter`."""
        return cls()

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
    """The larger of two eigenvalues a, and t = log(b/a), exact where they are close and where they are far apart."""
    a, b = torch.maximum(left, right), torch.minimum(left, right)
    positive = torch.where(a > 0, a, 1)
    return a, torch.where(2 * b < a, (b / positive).log(), torch.log1p(-(a - b) / positive))


def _quotient(numerator: Tensor, denominator: Tensor, limit: float) -> Tensor:
    """numerator / denominator, `limit` where both are zero."""
    return torch.where(denominator == 0, limit, numerator / torch.where(denominator == 0, 1, denominator))


@FUNCTIONS.register("sqrt", summary="square root")
@dataclass(frozen=True)
class Sqrt(SpectralFunction):
    """The root of the covariance, as the heads take it."""

    kernel = "Sqrt"

    def value(self, eigenvalues: Tensor) -> Tensor:
        return eigenvalues.sqrt()

    def difference(self, left: Tensor, right: Tensor) -> Tensor:
        return (left.sqrt() + right.sqrt()).reciprocal()


@FUNCTIONS.register("inverse_sqrt", summary="inverse square root: whitening")
@dataclass(frozen=True)
class InverseSqrt(SpectralFunction):
    """P^(-1/2)."""

    kernel = "InverseSqrt"

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

    kernel = "Power"
    exponent: float = option(0.5, "exponent, not 0", minimum=-4, maximum=4)

    def __post_init__(self) -> None:
        if self.exponent == 0:
            raise OptionError("option exponent of 'power' is 0; allowed: a number from -4 to 4 but 0.")

    @property
    def kernel_parameter(self) -> float:
        return float(self.exponent)

    @classmethod
    def of_kernel_parameter(cls, parameter: float) -> "Power":
        return cls(parameter)

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

    kernel = "Log"

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

    kernel = "Inverse"

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
