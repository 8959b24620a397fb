r"""What an iterative solver is: a scalar norm nu and a function phi, with Q = sqrt(nu) phi(P / nu).

On the smaller side the same root is Q = phi(0) sqrt(nu) I + Xc psi(K / nu) Xc^T / (M sqrt nu), with the Gram
matrix K = Xc^T Xc / M and phi(l) = phi(0) + l psi(l). A solver supplies both functions, their derivatives in
a direction (which are their own adjoints, every function here being a polynomial or rational), and the
gradient of the norm as a function of the matrix.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from gcp.errors import OptionError
from gcp.options import build, defaults
from gcp.registry import Registry


@dataclass(frozen=True)
class Solver:
    """A solver of the matrix square root; its fields are its options."""

    default_precision: ClassVar[str] = "float32"

    @property
    def null_value(self) -> float:
        """phi(0): what the solver makes of a null eigenvalue."""
        return 0.0

    def norm(self, P: Tensor) -> Tensor:
        """Nu (B,) of P or of its Gram matrix (B, n, n); equal for both."""
        raise NotImplementedError

    def norm_gradient(self, A: Tensor) -> Tensor:
        """D nu / d P (B, n, n) at A = P / nu: a polynomial in A, so that the Gram matrix may stand for P."""
        raise NotImplementedError

    def phi(self, A: Tensor) -> Tensor:
        """The root (B, n, n) of A = P / nu."""
        raise NotImplementedError

    def psi(self, A: Tensor) -> Tensor:
        """(phi(A) - phi(0) I) A^-1, (B, n, n), by a form without the inverse."""
        raise NotImplementedError

    def phi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        """phi(A) and its derivative in the symmetric direction E."""
        raise NotImplementedError

    def psi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        """psi(A) and its derivative in the symmetric direction E."""
        raise NotImplementedError


ROUNDING = "factors of the products of the iteration in float32: full, or rounded to tf32 or bf16 (docs/benchmarks.md)"
SOLVERS: Registry[type[Solver]] = Registry("solver")


def solver_options(name: str) -> dict[str, Any]:
    """Options of a solver with their defaults."""
    return defaults(SOLVERS[name].obj)


def create_solver(name: str, **options: Any) -> Solver:
    """The solver `name` with its options.

    Raises:
        UnknownNameError: no solver of that name.
        OptionError: an option that the solver does not take, or a value outside its bounds.
    """
    return build(SOLVERS[name].obj, name, options)


def check_fraction(name: str, key: str, value: float) -> None:
    """Raise OptionError unless 0 < value < 1."""
    if not 0 < value < 1:
        raise OptionError(f"option {key} of {name!r} is {value!r}; allowed: a number between 0 and 1.")
