"""What is wrong with a configuration, a line each: where, what was given, what is allowed, what to type."""

import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gcp.errors import nearest


@dataclass(frozen=True)
class Fault:
    """One line of the message.

    Attributes:
        key: where it is; empty for a file or a command.
        text: what is wrong.
        needs: keys that it was concluded from; a fault in one of them hides it.
        meant: values that were probably intended, the best first.
        keys: keys, perhaps with `=value`, that were probably intended, the best first.
        removable: the way out is to remove the key.
    """

    key: str
    text: str
    needs: tuple[str, ...] = ()
    meant: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    removable: bool = False

    def __str__(self) -> str:
        way_out = did_you_mean((*self.meant, *self.keys)) + (f"; remove it with {self.key}=null" * self.removable)
        return f"{self.key}: {self.text}{way_out}" if self.key else f"{self.text}{way_out}"

    def within(self, place: str) -> "Fault":
        """The same fault of the section, or of the key, that is written at `place`, such as `stages.1`."""
        key = f"{place}.{self.key}" if self.key else place
        return replace(self, key=key, keys=tuple(f"{place}.{each}" for each in self.keys))


def wrong(
    key: str,
    value: object,
    allowed: str,
    meant: Iterable[str] = (),
    needs: Iterable[str] = (),
    keys: Iterable[str] = (),
) -> Fault:
    """A value that its key does not take; the rest as in `Fault`."""
    text = f"got {show(value)} ({kind(value)}); allowed: {allowed}"
    return Fault(key, text, tuple(needs), tuple(meant), tuple(keys))


def unknown(key: str, value: object, allowed: Iterable[str], keys: Iterable[str] = ()) -> Fault:
    """A key that nothing reads."""
    text = f"unknown key, got {show(value)} ({kind(value)}); allowed: {', '.join(allowed)}"
    return Fault(key, text, keys=tuple(keys))


def did_you_mean(meant: Iterable[str]) -> str:
    """`; did you mean X or Y?`, or an empty text."""
    names = " or ".join(meant)
    return f"; did you mean {names}?" if names else ""


def show(value: object) -> str:
    """A value as YAML writes it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, (list, tuple)):
        items = ["[...]" if isinstance(item, (list, tuple)) else show(item) for item in value[:6]]
        return f"[{', '.join(items + ['...'] * (len(value) > 6))}]"
    return _short.repr(value)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlevel = 2  # aliases of aliases print exponentially long


def kind(value: object) -> str:
    """The type of a value in words."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "section"
    words: list[tuple[type, str]] = [
        (bool, "switch"),
        (int, "whole number"),
        (float, "number"),
        (str, "text"),
        (list, "list"),
        (tuple, "list"),
    ]
    return next((word for type_, word in words if isinstance(value, type_)), type(value).__name__)


def allowed(schema: dict[str, Any]) -> str:
    """In words, the values that the JSON schema of a key takes."""
    if "$comment" in schema:
        return schema["$comment"]
    if "anyOf" in schema:
        return ", or ".join(allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        least = f" of at least {schema['minItems']}" if "minItems" in schema else ""
        return f"a list{least}, each {allowed(schema['items'])}"
    words = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "string": "text",
        "null": "null",
    }
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [
        f"{sign} {schema[name]:g}" if abs(schema[name]) < 1e6 else f"{sign} {schema[name]}"
        for name, sign in signs.items()
        if name in schema
    ]
    word = words.get(schema.get("type", ""), "a value")
    return " ".join([word, " and ".join(limits)]).strip()


def choices(schema: dict[str, Any]) -> list[str]:
    """The words that the JSON schema of a key names, for the nearest one."""
    if schema.get("type") == "boolean":
        return ["true", "false"]
    words = [str(value) for value in schema.get("enum", [])] + ([str(schema["const"])] if "const" in schema else [])
    return words + [word for option in schema.get("anyOf", []) for word in choices(option)]


def nearest_key(path: Sequence[str], known: Mapping[str, Sequence[str]]) -> list[str]:
    """The keys that an unknown `path` probably meant, as `section.key`. `known` are the keys by section.

    The same words with other signs between them come first, such as `train-epochs` for `train.epochs`; the same key in
    another section comes before a similar one in the same section.
    """
    *above, key = path
    spelt = [f"{section}.{each}" for section, keys in known.items() for each in keys]
    same = [each for each in spelt if _letters(each) == _letters(".".join(path))]
    if same:
        return same
    same = [f"{section}.{key}" for section, keys in known.items() if key in keys]
    if same:
        section = None if above else nearest(key, known, 0.85)  # stage: a key of the model, or the section stages
        return [section, *same] if section else same
    close = nearest(key, known[above[0]] if above and above[0] in known else known)
    if close:
        return [".".join([*above, close])]
    every = [each for keys in known.values() for each in keys]
    words = set(key.split("_"))  # lr_params: lr
    whole = [each for each in every if words > set(each.split("_"))]
    close = max(whole, key=len) if whole else nearest(key, every, 0.65)
    return [f"{section}.{close}" for section, keys in known.items() if close in keys]


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
