"""Options of rules, solvers, heads and data sets: dataclass fields that check themselves.

A rule or solver is a frozen dataclass; its fields are its options, with default, bounds and meaning in one
place, and `build` turns keyword arguments into an instance or into one clear message.
"""

from collections.abc import Collection
from dataclasses import Field, field
from math import inf
from numbers import Integral, Real
from typing import Any, TypeVar

from gcp.errors import OptionError, suggest

T = TypeVar("T")


def option(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float = inf,
    below: float = inf,
    choices: Collection[Any] = (),
    optional: bool = False,
) -> Any:
    """A dataclass field with the bounds that `build` checks: `minimum <= value <= maximum` and `value < below`.

    None is allowed where `optional`.

    The type is that of the default, a whole number where it is None; booleans never count as numbers.
    """
    bounds = {"minimum": minimum, "maximum": maximum, "below": below, "choices": choices, "optional": optional}
    return field(default=default, metadata={"help": help, **bounds})


def passed_on(help: str) -> Any:
    """A dataclass field, null by default, that is checked by whatever its value is passed on to."""
    return field(default=None, metadata={"help": help, "passed_on": True})


def text_option(help: str) -> Any:
    """A dataclass field, null by default, that takes a text."""
    return field(default=None, metadata={"help": help, "text": True})


def defaults(kind: type) -> dict[str, Any]:
    """Option names of a rule or solver with their default values."""
    return {name: f.default for name, f in _options(kind).items()}


def _options(kind: type) -> dict[str, Field]:
    """Fields made by `option`; `dataclasses.fields` would do, but does not pass through torch.compile."""
    every: dict[str, Field] = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return {name: f for name, f in every.items() if "help" in f.metadata}


def _fault(f: Field, value: Any) -> str | None:
    if f.metadata.get("passed_on"):
        return None
    if f.metadata.get("text"):
        return None if value is None or (isinstance(value, str) and value) else "a text, or null"
    choices, minimum, maximum, below = (f.metadata[key] for key in ("choices", "minimum", "maximum", "below"))
    if choices:
        return None if value in choices else f"one of {', '.join(map(str, choices))}{suggest(str(value), choices)}"
    if value is None and f.metadata["optional"]:
        return None
    if isinstance(f.default, bool):
        return None if isinstance(value, bool) else "true or false"
    whole = f.default is None or isinstance(f.default, int)
    numeric = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if numeric and minimum <= value <= maximum and value < below:  # below infinity, where there is no bound
        return None
    upper = f" and <= {maximum}" if maximum < inf else f" and < {below:g}" if below < inf else ""
    return f"{'a whole number' if whole else 'a number'} >= {minimum:g}{upper}{' or null' * f.metadata['optional']}"


def build(kind: type[T], name: str, options: dict[str, Any]) -> T:
    """Construct `kind(**options)`.

    Raises:
        OptionError: an option that `name` does not have, or a value outside its bounds.
    """
    known = _options(kind)
    for key, value in options.items():
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes no options"
            raise OptionError(f"{name!r} has no option {key!r}: {takes}.{suggest(key, known)}")
        fault = _fault(known[key], value)
        if fault:
            raise OptionError(f"option {key} of {name!r} is {value!r}; allowed: {fault}.")
    return kind(**options)


def check_choice(key: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise OptionError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise OptionError(f"{key} is {value!r}; allowed: {', '.join(allowed)}.{suggest(str(value), allowed)}")
