"""Options of rules and solvers: dataclass fields that check themselves.

A rule or solver is a frozen dataclass; its fields are its options, with default, bounds and meaning in one
place, and `build` turns keyword arguments into an instance or into one clear message.
"""

from dataclasses import Field, field
from math import isfinite
from typing import Any, TypeVar

from gcp.errors import OptionError, suggest

T = TypeVar("T")


def option(default: Any, help: str, *, minimum: float | None = None, choices: tuple = ()) -> Any:
    """A dataclass field with the bounds that `build` checks; booleans never count as numbers."""
    return field(default=default, metadata={"help": help, "minimum": minimum, "choices": choices})


def defaults(kind: type) -> dict[str, Any]:
    """Option names of a rule or solver with their default values."""
    return {name: f.default for name, f in _options(kind).items()}


def _options(kind: type) -> dict[str, Field]:
    """Fields made by `option`; `dataclasses.fields` would do, but does not pass through torch.compile."""
    every: dict[str, Field] = vars(kind)["__dataclass_fields__"]
    return {name: f for name, f in every.items() if "help" in f.metadata}


def _fault(f: Field, value: Any) -> str | None:
    choices, minimum = f.metadata["choices"], f.metadata["minimum"]
    if choices:
        return None if value in choices else f"one of {', '.join(map(str, choices))}{suggest(str(value), choices)}"
    whole = isinstance(f.default, int)
    numeric = isinstance(value, (int,) if whole else (int, float)) and not isinstance(value, bool)
    if numeric and isfinite(value) and value >= minimum:
        return None
    return f"{'a whole number' if whole else 'a number'} >= {minimum:g}"


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
