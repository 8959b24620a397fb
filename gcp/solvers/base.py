"""What a solver is: options that give a method, and the composition with a backward rule, a side and a precision."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import Any, ClassVar

from gcp.errors import OptionError
from gcp.functions import create_function, function_options
from gcp.gradients import create_rule
from gcp.ops.numerics import check_precision
from gcp.options import build, check_choice, defaults
from gcp.registry import Registry
from gcp.roots.coupled import CoupledIteration, CoupledLyapunov, InverseLyapunov
from gcp.roots.eigen import FunctionEigen
from gcp.roots.iterations import InverseIterations, Iteration, Iterations, Ridged
from gcp.roots.root import Method, Root

SIDES = ("auto", "channel", "sample")
FORMS = ("folded", "published")
ITERATIVE_FUNCTIONS = ("sqrt", "inverse_sqrt")
NO_OPTIONS: Mapping[str, Any] = {}
ROUNDING = "factors of the products of the iteration in float32: full, or rounded to tf32 or bf16 (docs/benchmarks.md)"


@dataclass(frozen=True)
class Solver:
    """A solver of the matrix square root; its fields are its options. `head`: the pooling head with this solver."""

    head: ClassVar[str | None] = None

    @classmethod
    def create_method(cls, name: str, rule: str, form: str, options: Mapping[str, Any]) -> Method:
        """The method with a rule in one of its forms; `name` is the solver's own, for messages.

        Raises:
            OptionError, UnknownNameError: what the solver does not take.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class IterativeSolver(Solver, Iteration):
    """A solver that brings its own backward: the derivative of its iterations, unless it says otherwise."""

    def method(self) -> Method:
        """The method with these options."""
        return Iterations(self)

    def inverse_method(self) -> Method:
        """The same for the inverse root of a positive definite matrix."""
        return InverseIterations(self)

    @classmethod
    def create_method(cls, name: str, rule: str, form: str, options: Mapping[str, Any]) -> Method:
        if rule != "exact":
            raise OptionError(f"solver {name!r} brings its own backward; rule={rule!r} needs solver='eig'.")
        if form != "folded":
            raise OptionError(f"solver {name!r} has one form; form='published' needs solver='eig'.")
        return build(cls, name, dict(options)).method()


@dataclass(frozen=True)
class CoupledSolver(IterativeSolver, CoupledIteration):
    """A solver that has both roots at once and converges to the exact ones, whose gradient it takes."""

    def method(self) -> Method:
        return CoupledLyapunov(self)

    def inverse_method(self) -> Method:
        return InverseLyapunov(self)


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


def create_root(
    rule: str = "exact",
    solver: str = "eig",
    side: str = "auto",
    form: str = "folded",
    precision: str | None = None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> Root:
    """A root with the arguments of `gcp.covariance_sqrt`; raises OptionError or UnknownNameError."""
    kind = SOLVERS[solver].obj  # an unknown name is the first thing to say
    check_choice("side", side, SIDES)
    check_choice("form", form, FORMS)
    check_precision(precision)
    method = kind.create_method(solver, rule, form, options)
    if form == "published":
        if side == "sample":
            raise OptionError("form='published' works on the channel side; use side='auto' or side='channel'.")
        side = "channel"
    if precision == "float64" and options.get("products", "full") != "full":
        raise OptionError(
            f"products={options['products']!r} rounds float32; with precision='float64' nothing is rounded. "
            "Leave one of them out."
        )
    return Root(method, side, precision)


def create_function_root(
    function: str,
    ridge: float,
    rule: str,
    side: str,
    precision: str | None,
    options: Mapping[str, Any],
    solver: str = "eig",
) -> Root:
    """As `create_root`, with the arguments of `gcp.covariance_function`.

    `options` are of the function and of the rule, or of the solver.
    """
    own = function_options(function)
    kind = SOLVERS[solver].obj
    chosen = create_function(function, **{key: value for key, value in options.items() if key in own})
    others = {key: value for key, value in options.items() if key not in own}
    check_choice("side", side, SIDES)
    check_precision(precision)
    if isinstance(ridge, bool) or not isinstance(ridge, Real) or not 0 <= ridge < inf:
        raise OptionError(f"ridge is {ridge!r}; allowed: a number >= 0.")
    if ridge == 0 and not chosen.finite_at_zero:
        raise OptionError(f"function {function!r} is not finite at eigenvalue 0; set ridge above 0, such as 1e-3.")
    if issubclass(kind, IterativeSolver):
        return _iterative_function(function, float(ridge), kind, solver, rule, side, precision, others)
    backward = create_rule(rule, **others)
    if not backward.has_function(function):
        raise OptionError(
            f"rule {rule!r} is the gradient of an iteration, which has the functions "
            f"{', '.join(backward.functions or ())}, not {function!r}; take rule='exact' or another."
        )
    method = FunctionEigen
    if backward.has_trace_term:
        from gcp.roots.newton import NewtonFunction as method
    return Root(method(backward, chosen, float(ridge)), side, precision)


def _iterative_function(
    function: str,
    ridge: float,
    kind: type[IterativeSolver],
    solver: str,
    rule: str,
    side: str,
    precision: str | None,
    options: Mapping[str, Any],
) -> Root:
    if function not in ITERATIVE_FUNCTIONS:
        raise OptionError(
            f"solver {solver!r} has the functions {', '.join(ITERATIVE_FUNCTIONS)}; {function!r} needs solver='eig'."
        )
    if side == "sample":
        raise OptionError(
            f"solver {solver!r} takes a function with a ridge on the channel side; "
            "use side='auto' or side='channel', or solver='eig'."
        )
    method = kind.create_method(solver, rule, "folded", options)
    if function == "inverse_sqrt":
        method = build(kind, solver, dict(options)).inverse_method()
    return Root(Ridged(method, ridge), "channel", precision)


def check_fraction(name: str, key: str, value: float) -> None:
    """Raise OptionError unless 0 < value < 1."""
    if not 0 < value < 1:
        raise OptionError(f"option {key} of {name!r} is {value!r}; allowed: a number between 0 and 1.")
