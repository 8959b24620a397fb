"""Variants of a study: every combination of the values of its keys, and what each is called."""

import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from gcp.studies.study import HEAD, Study

LONGEST = 120  # letters of a folder's name; file systems end at 255


@dataclass(frozen=True)
class Variant:
    """A combination of values, in the order of the keys of the grid."""

    values: dict[str, Any]
    label: str

    @property
    def words(self) -> list[str]:
        """The overrides that make it."""
        return [f"{key}={json.dumps(value)}" for key, value in self.values.items()]

    def part(self, keys: Iterable[str]) -> str:
        """The values of some of its keys."""
        return ", ".join(_named(key, self.values[key], list(self.values)) for key in keys)

    @property
    def slug(self) -> str:
        """A name for folders: all values, so that it stays when others are added to the study."""
        text = "-".join(self.part([key]) for key in self.values)
        plain = re.sub(r"[^A-Za-z0-9_+=,.-]+", "_", text).lstrip(",.") or "_"
        if plain == text and len(plain) <= LONGEST:
            return plain
        return f"{plain[:LONGEST]}-{zlib.crc32(text.encode()):08x}"


def variants(study: Study) -> list[Variant]:
    """All of a study."""
    differing = [key for key, values in study.grid.items() if len(values) > 1] or list(study.grid)[:1]
    made = []
    for values in product(*study.grid.values()):
        chosen = dict(zip(study.grid, values, strict=True))
        variant = Variant(chosen, "")
        made.append(replace(variant, label=variant.part(differing)))
    return made


def references(study: Study, every: Sequence[Variant]) -> dict[str, str]:
    """For the label of each variant, that of the one it is compared with, by default the first of all; its own for a
    reference.

    A reference that is one value, such as `form=folded` among several heads, is for each variant the one that differs
    from it in this value alone. A variant for which there is no such one is not in the answer.
    """
    labels = [variant.label for variant in every]
    reference = labels[0] if study.reference is None else study.reference
    if reference in labels:
        return dict.fromkeys(labels, reference)
    key, value = values_by_name(study)[reference]
    found = {}
    for variant in every:
        other = [each.label for each in every if each.values == variant.values | {key: value}]
        if other:
            found[variant.label] = other[0]
    return found


def values_by_name(study: Study) -> dict[str, tuple[str, Any]]:
    """Every value that varies, as labels name it, with its key."""
    keys = list(study.grid)
    return {_named(key, value, keys): (key, value) for key in keys for value in study.grid[key]}


def _named(key: str, value: Any, keys: list[str]) -> str:
    """`svd_pade` of head.name, `form=published` of others; the whole key where two end alike."""
    if key == HEAD:
        return shown(value)
    last = key.rpartition(".")[2]
    alike = sum(other.rpartition(".")[2] == last for other in keys) > 1
    return f"{key if alike else last}={shown(value)}"


def shown(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return json.dumps(value)
