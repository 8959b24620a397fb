"""A study in a YAML file: its keys, and what is wrong with them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from gcp.config import recipes, yaml_file
from gcp.config.faults import kind, show
from gcp.errors import GCPError, suggest
from gcp.studies.grid import HEAD, PUBLISHED, SETTINGS, Study, expand_heads, overrides, parse_seeds, same

KEYS = (
    "title",
    "config",
    "heads",
    "seeds",
    "grid",
    "overrides",
    "reference",
    "skip_invalid",
    "reduce_average",
    "published",
    "notes",
    "variants",
    "tune",
    "tune_seeds",
    "probe",
)
RECIPE = "a recipe, relative to this file"
TUNED = "keys with a list of values each, such as optim.lr: [0.01, 0.03, 0.1]"


def load_study(path: Path) -> tuple[Study, list[str]]:
    """The study in a file, its name that of the file, and what is wrong with it. `config` is relative to the file.

    Raises:
        GCPError: no such file, or not YAML.
    """
    path = recipes.find(path, recipes.STUDIES)
    if not path.is_file():
        ours = recipes.studies()
        hint = suggest(path.stem, ours)
        raise GCPError(f"no file {str(path)!r}, nor a study of that name in gcp.{hint} Known: {', '.join(ours)}.")
    values, read_faults = yaml_file.read(path)
    if values is None:
        raise GCPError("; ".join(map(str, read_faults)))
    faults = [f"{path}: {fault}" for fault in read_faults]
    faults += [
        f"{path}: {key}: unknown key.{suggest(key, KEYS)} Known: {', '.join(KEYS)}."
        for key in values
        if key not in KEYS
    ]

    def take(key: str, default: Any, allowed: str, fits: Any) -> Any:
        value = values.get(key)
        if value is None or fits(value):
            return default if value is None else value
        faults.append(f"{path}: {key}: got {show(value)} ({kind(value)}); allowed: {allowed}")
        return default

    recipe = take("config", "", RECIPE, lambda value: isinstance(value, str))
    if values.get("config") is None:
        faults.append(f"{path}: config: missing; allowed: {RECIPE}")
    heads, unknown = expand_heads(take("heads", [], "a list of heads or patterns", _texts))
    faults += [fault.replace("--heads", f"{path}: heads") for fault in unknown]
    named = take("variants", {}, "names with a mapping of keys and values each", _settings)
    grid: dict[str, list[Any]] = ({SETTINGS: [str(name) for name in named]} if named else {}) | (
        {HEAD: heads} if heads else {}
    )
    probe = take("probe", False, "true or false", lambda value: isinstance(value, bool))
    axes = take("grid", {}, "keys with a list of values each, each value once", _axes)
    seeds = take("seeds", 5, "how many, or a list of them", lambda value: isinstance(value, int | str | list))
    try:
        numbers = parse_seeds(",".join(map(str, seeds)) + "," if isinstance(seeds, list) else str(seeds))
    except ValueError as error:
        numbers = []
        faults.append(str(error).replace("--seeds", f"{path}: seeds"))
    study = Study(
        name=path.stem,
        config=_from_here(path, recipe) if recipe else "",
        grid=grid | {str(key): list(several) for key, several in axes.items()},
        seeds=numbers,
        overrides=take("overrides", [], "a list of key=value", _texts),
        variants={str(name): {str(key): value for key, value in own.items()} for name, own in named.items()},
        tune={str(key): list(values) for key, values in take("tune", {}, TUNED, _axes).items()},
        tune_seeds=take("tune_seeds", 1, "a whole number of at least 1", lambda n: type(n) is int and n > 0),
        title=take("title", "", "text", lambda value: isinstance(value, str)),
        reference=take("reference", None, "the label of a variant", lambda value: isinstance(value, str)),
        published=take("published", {}, f"labels of variants with {', '.join(PUBLISHED)} each", _published),
        notes=take("notes", [], "a list of texts", _texts),
        reduce_average=take("reduce_average", False, "true or false", lambda value: isinstance(value, bool)),
        skip_invalid=take("skip_invalid", False, "true or false", lambda value: isinstance(value, bool)),
    )
    return probing(study) if probe else study, faults


# of a study of frozen features: a short epoch is no reason to score or to write, which would take longer
PROBE = {
    "train.cache_features": True,
    "model.freeze": ["features"],
    "evaluate.every": "100 %",
    "checkpoint.every": "10 minutes",
}


def probing(study: Study) -> Study:
    """The same on features that are computed once; what the study itself says of these keys holds."""
    given = {word.partition("=")[0] for word in study.overrides} | set(study.grid) | set(study.tune)
    given |= {key for own in study.variants.values() for key in own}
    new = {key: value for key, value in PROBE.items() if key not in given}
    return replace(study, overrides=[*overrides(new), *study.overrides])


def _from_here(path: Path, recipe: str) -> str:
    """The recipe as seen from the working folder."""
    place = (path.parent / recipe).resolve()
    here = Path.cwd()
    return str(place.relative_to(here) if place.is_relative_to(here) else place)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _axes(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(several, list) and several and _each_once(several) for several in value.values()
    )


def _settings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(own, dict) for own in value.values())


def _each_once(values: list[Any]) -> bool:
    return not any(same(value, other) for place, value in enumerate(values) for other in values[:place])


def _published(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(entry, dict)
        and set(entry) <= set(PUBLISHED)
        and isinstance(entry.get("value"), int | float)
        and all(isinstance(entry.get(key, ""), str) for key in ("what", "source"))
        for entry in value.values()
    )
