"""What a study is made of: a recipe, values of some of its keys, seeds. It comes from flags or a YAML file.

Every combination of the values is a variant, and each variant is run with every seed.
"""

import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from gcp.config import parse_override, yaml_file
from gcp.errors import ConfigError, GCPError, suggest

HEAD = "head.name"
SETTINGS = "settings"  # in a grid: the names of variants with settings of their own
# what a study sets itself
OWN = {"run.seed": "--seeds", "run.name": "--name", "run.dir": "--out"}
# `{value: 77.33, what: top-1 accuracy %, source: ICCV 2021 poster}`
PUBLISHED = ("value", "what", "source")
MOST = 1000  # seeds by their number: more is a slip, or one seed that was meant


@dataclass(frozen=True)
class Study:
    """Plain values, as they stand in `study.yaml`.

    Attributes:
        name: of the folder.
        config: the recipe that all runs have in common.
        grid: values of each key that varies; every combination is a variant. With `variants` it begins with
            `settings`, whose values are their names.
        variants: settings of its own, by key, for each name.
        tune: values of keys of which each variant gets the best on validation, before the seeds are run.
        tune_seeds: runs of each of these values.
        chosen: what was best, by label of a variant and key.
        seeds: each variant is run with each of them.
        overrides: `key=value` on top of the recipe.
        title: one line about what is asked.
        reference: label of the variant that the others are compared with; None for the first.
        published: published numbers by label of a variant.
        notes: what a reader of the table should know.
        reduce_average: whether heads of first order, such as `average`, get the reduction to head.dim of the others.
        skip_invalid: leave out combinations that no configuration allows.
        command: as it was typed.
        jobs: runs at once, the last time.
        threads: of the processor for each run, chosen once, because sums depend on their number; None on GPUs.
    """

    name: str
    config: str
    grid: dict[str, list[Any]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    overrides: list[str] = field(default_factory=list)
    title: str = ""
    reference: str | None = None
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    skip_invalid: bool = False
    reduce_average: bool = False
    command: str = ""
    jobs: int = 1
    threads: int | None = None
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    tune: dict[str, list[Any]] = field(default_factory=dict)
    tune_seeds: int = 1
    chosen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Values for YAML."""
        return asdict(self)

    def extended(self, new: "Study") -> "Study":
        """This study with the seeds and values that `new` adds, and its words about them.

        Raises:
            ConfigError: `new` varies other keys.
        """
        for old, more, what in ((self.grid, new.grid, "varies"), (self.tune, new.tune, "tunes")):
            if list(old) != list(more):
                before, now = (", ".join(axes) or "nothing" for axes in (old, more))
                raise ConfigError(
                    [f"the study in this folder {what} {before}, not {now}; give another --name"], "the study"
                )
        grid = {key: _union(values, new.grid[key]) for key, values in self.grid.items()}
        tune = {key: _union(values, new.tune[key]) for key, values in self.tune.items()}
        for name, settings in self.variants.items():
            if new.variants.get(name, settings) != settings:
                raise ConfigError(
                    [f"variants: {name}: other settings than in this folder; give another --name"], "the study"
                )
        kept = {key: getattr(self, key) or getattr(new, key) for key in ("skip_invalid", "reduce_average")}
        seeds = _union(self.seeds, new.seeds)
        named = self.variants | new.variants
        runs = max(self.tune_seeds, new.tune_seeds)
        return replace(
            new, grid=grid, seeds=seeds, threads=self.threads, variants=named, tune=tune, tune_seeds=runs, **kept
        )


def _union(old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    return [*old, *(value for value in new if not any(same(value, other) for other in old))]


def same(a: object, b: object) -> bool:
    """Equal values of one type: 1, 1.0 and true are three."""
    return type(a) is type(b) and a == b


def read_study(path: Path) -> Study:
    """The study in a folder's `study.yaml`. Raises GCPError where it is damaged."""
    values, faults = yaml_file.read(path)
    known = {each.name for each in fields(Study)}
    kinds = {"name": str, "config": str, "grid": dict, "seeds": list}
    if values is None or faults or not all(isinstance(values.get(key), kind) for key, kind in kinds.items()):
        raise GCPError(f"{path} is damaged{''.join(f': {fault}' for fault in faults[:1])}. Put it back, or remove it")
    return Study(**{key: value for key, value in values.items() if key in known})


def parse_seeds(text: str) -> list[int]:
    """`5` -> [0, 1, 2, 3, 4]; `3,7,11` -> [3, 7, 11]; `3,` -> [3]. Raises ValueError with what is allowed."""
    allowed = f"allowed: how many, 1 to {MOST}, such as 5 for 0 to 4, or which, such as 3,7,11"
    words = [word.strip() for word in text.split(",")]
    if len(words) > 1 and not words[-1]:
        words.pop()
    if not all(word.isascii() and word.isdigit() for word in words):
        raise ValueError(f"--seeds: got {text!r}; {allowed}")
    numbers = [int(word) for word in words]
    if "," not in text:
        if not 1 <= numbers[0] <= MOST:
            raise ValueError(f"--seeds: got {text!r}; {allowed}")
        return list(range(numbers[0]))
    if len(set(numbers)) < len(numbers) or max(numbers) >= 2**32:
        raise ValueError(f"--seeds: got {text!r}; {allowed}, each once and below 2^32")
    return numbers


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """`head.dim=64,128` -> ("head.dim", [64, 128]); commas inside brackets or quotes belong to the value.

    Raises:
        ValueError: what `key=value` overrides refuse, no values, or one twice.
    """
    key, sign, rest = text.partition("=")
    if not sign:
        raise ValueError(f"--grid {text}: no values; allowed: key=v1,v2, such as head.dim=64,128")
    parsed = [parse_override(f"{key}={part}" if rest else text) for part in _split(rest)]
    values = [value for _, value in parsed]
    if len(_union([], values)) < len(values) or len(_union(values[:1], values[1:])) < len(values):
        raise ValueError(f"--grid {text}: a value is given twice")
    return key, values


def _split(text: str) -> list[str]:
    """At commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not parts[-1].strip():
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += letter
    return parts


def expand_heads(patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of heads that match, each once in the order of the patterns, and what is wrong with the patterns."""
    from gcp.heads import list_heads

    every = [str(name) for name in list_heads("*")]
    found: list[str] = []
    faults = []
    for pattern in patterns:
        matching = [str(name) for name in list_heads(pattern)]
        found += [name for name in matching if name not in found]
        if not matching:
            what = "no head matches" if set(pattern) & set("*?[") else "unknown head"
            faults.append(f"--heads: {what} {pattern!r}.{suggest(pattern, every)} Known: {', '.join(every)}.")
    return found, faults


LONGEST = 120  # letters of a folder's name; file systems end at 255


@dataclass(frozen=True)
class Variant:
    """A combination of values, in the order of the keys of the grid. `settings`: that its name stands for."""

    values: dict[str, Any]
    label: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, Any]:
        """Every key that it sets, with the value."""
        return self.settings | {key: value for key, value in self.values.items() if key != SETTINGS}

    @property
    def words(self) -> list[str]:
        """The overrides that make it."""
        return overrides(self.keys)

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


def overrides(values: dict[str, Any]) -> list[str]:
    """Values by key as `key=value`."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def variants(study: Study) -> list[Variant]:
    """All of a study."""
    differing = [key for key, values in study.grid.items() if len(values) > 1] or list(study.grid)[:1]
    made = []
    for values in product(*study.grid.values()):
        chosen = dict(zip(study.grid, values, strict=True))
        variant = Variant(chosen, "", study.variants.get(chosen.get(SETTINGS, ""), {}))
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
    if key in (HEAD, SETTINGS):
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
