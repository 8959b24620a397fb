"""From a YAML file and overrides to a checked `Config`, or to every fault at once."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, overload

import yaml

from gcp.config import recipes, stages, yaml_file
from gcp.config.faults import Fault, did_you_mean, kind, show
from gcp.config.plugins import resumable, within
from gcp.config.schema import Common, Config, composed, sections
from gcp.config.validate import validate
from gcp.config.values import Section
from gcp.config.yaml_file import merge
from gcp.errors import OptionError, nearest
from gcp.registry import import_own

S = TypeVar("S", bound=Section)


@overload
def load(path: str | Path, overrides: Iterable[str] = (), *, written: bool = ...) -> Config: ...


@overload
def load(path: str | Path, overrides: Iterable[str], schema: type[S], written: bool = ...) -> S: ...


def load(path: str | Path, overrides: Iterable[str] = (), schema: type[Any] = Config, written: bool = False) -> Any:
    """The configuration in a YAML file, over that of the file it `extends`, under `key.path=value` overrides;
    `schema`: of a classifier, or of another kind of run; `written`: the file was written by a run (`as_then`).

    What is the user's own is imported: the modules of `run.plugins`, before anything is checked, and a data set
    `data.name: MODULE:FUNCTION`. Raises `ConfigError` with every fault of the files and of the overrides, one a line.
    """
    overrides = list(overrides)
    plugin_key, plugin_faults = _import_plugins(_found(path), overrides)
    schema = composed(schema)
    mapping, faults = _read_with_base(_found(path), schema)
    faults += plugin_faults
    extra = {0: "", 1: " and 1 override"}.get(len(overrides), f" and {len(overrides)} overrides")
    mapping = as_then(mapping, schema) if mapping and written else mapping
    values, more = _override(mapping or {}, overrides, schema)
    _import_own(values)
    source, spelt, complete = f"{path}{extra}", {"run.plugins": plugin_key}, mapping is not None
    return validate(values, [*faults, *more], source, complete, schema, spelt)


@overload
def from_dict(
    values: Mapping[str, Any], overrides: Iterable[str] = (), source: str = ..., *, written: bool = ...
) -> Config: ...


@overload
def from_dict(
    values: Mapping[str, Any], overrides: Iterable[str], source: str, schema: type[S], written: bool = ...
) -> S: ...


def from_dict(
    values: Mapping[str, Any],
    overrides: Iterable[str] = (),
    source: str = "the configuration",
    schema: type[Any] = Config,
    written: bool = False,
) -> Any:
    """The configuration in plain values by section (`Config.plain()` gives them), under overrides; `schema` and
    `written` as of `load`. The values may be of a checkpoint, which may come from anybody: `run.plugins` and a data set
    `MODULE:FUNCTION` are imported from overrides alone.

    Raises `ConfigError` with every fault; `source` names the origin of the values in it.
    """
    overrides, values = list(overrides), _with_plugins(values)
    plugin_key, plugin_faults = _import_plugins(None, overrides)
    schema = composed(schema)
    values = as_then(values, schema) if written else values
    merged, faults = _override(values, overrides, schema)
    faults += [*plugin_faults, *_not_imported(values)]
    if any(text.startswith("data.name=") for text in overrides):
        _import_own(merged)
    return validate(merged, faults, source, schema=schema, spelt={"run.plugins": plugin_key})


# What a run did before there was the key, where the default is another.
THEN: dict[str, dict[str, Any]] = {
    "data": {"preprocessing": "dataset"},
    "model": {"token": "none"},
    "optim": {"decay_all": True},
}


def as_then(values: Mapping[str, Any], schema: type[Section] = Config) -> dict[str, Any]:
    """The values that a run wrote, perhaps of an earlier version: it names every key that it read, so what it does not
    name it did as before there was the key.
    """
    if not issubclass(schema, Config):
        return dict(values)
    sections = {name: values.get(name) for name in THEN}
    then = {name: THEN[name] | {**section} for name, section in sections.items() if isinstance(section, Mapping)}
    return {**values, **then}


IMAGES = ("image_size", "mean", "std", "interpolation", "crop_pct", "crop_mode", "preprocessing")


def with_images_of(config: Any, before: Any) -> Any:
    """A configuration whose images are prepared as a run has settled, where nobody asks for something else now."""
    if not isinstance(config, Config) or before.data.preprocessing == config.data.preprocessing:
        return config
    fields = type(config.data).model_fields
    open_keys = [key for key in IMAGES if getattr(config.data, key) == fields[key].default]
    settled = {key: getattr(before.data, key) for key in open_keys}
    return config.model_copy(update={"data": config.data.model_copy(update=settled)})


def stage_configs(config: Config) -> tuple[Config, ...]:
    """The configuration of each stage as one of a run of its own, without `stages`."""
    base = {key: value for key, value in config.plain().items() if key != "stages"}
    return tuple(from_dict(merge(base, stage)) for stage in config.stages)


def dump(config: Common) -> str:
    """YAML text with every key that is read, inheritance and overrides resolved; it loads to an equal configuration."""
    return yaml_file.write(config.plain())


def parse_override(text: str) -> tuple[str, Any]:
    """`"optim.lr=1e-3"` -> `("optim.lr", 0.001)`: the value is a YAML scalar, list or null.

    Raises `ValueError` that says what is wrong with it.
    """
    key, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"override {text!r} has no '='; allowed: key.path=value, such as optim.lr=0.01")
    if not all(key.split(".")):
        raise ValueError(f"override {text!r} names no key; allowed: key.path=value, such as optim.lr=0.01")
    if not value.strip():
        raise ValueError(f"override {text!r} has no value; for the absence of one type {key}=null")
    try:
        parsed, faults = yaml_file.parse(value)
    except yaml.YAMLError as error:
        reason = yaml_file.located(error).partition(": ")[2]
        raise ValueError(f"override {show(text)} has a value that is not valid YAML: {reason}") from None
    except RecursionError:
        raise ValueError(f"override {text[:40]!r}... is nested too deeply to be read") from None
    if faults:
        raise ValueError(f"override {text!r}: {faults[0]}")
    return key, parsed


def _import_plugins(path: Path | None, overrides: Sequence[str]) -> tuple[str, list[Fault]]:
    """Import the modules that the user's file, the file that it extends, and the overrides name as `run.plugins`, and
    return how the user spells this key.

    Before the rest is read, since they may register what is named there: a head, a data set, a callback with a section.
    """
    named: list[Any] = []
    seen: set[Path] = set()
    short = any(text.startswith("plugins=") for text in overrides)
    while path is not None and path.is_file() and path.resolve() not in seen:
        seen.add(path.resolve())
        given = yaml_file.read(path)[0] or {}
        short |= "plugins" in given
        mapping = _with_plugins(given)
        section, extends = mapping.get("run"), mapping.get("extends")
        named.append(section.get("plugins") if isinstance(section, Mapping) else None)
        path = _below(path, extends) if isinstance(extends, str) else None
    for text in overrides:
        if text.startswith(("run.plugins=", "plugins=")):
            with suppress(ValueError):  # what is wrong with it is said where it is read
                named.append(parse_override(text)[1])
    key, faults = "plugins" if short else "run.plugins", []
    for module in dict.fromkeys(each for names in named if isinstance(names, list) for each in names):
        if isinstance(module, str):
            try:
                import_own(module, "allowed: modules that can be imported, such as [my_heads] for my_heads.py.")
            except OptionError as error:
                faults.append(Fault(key, str(error)))
    return key, faults


def _with_plugins(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """`plugins` at the top of a file as the key `run.plugins` that it stands for."""
    run = mapping.get("run") or {}
    if "plugins" not in mapping or not isinstance(run, Mapping):
        return mapping
    rest = {key: value for key, value in mapping.items() if key != "plugins"}
    return rest | {"run": {"plugins": mapping["plugins"], **run}}


def _not_imported(values: Mapping[str, Any]) -> list[Fault]:
    """What to type where a checkpoint needs modules that its reader has not named."""
    section = values.get("run")
    named = section.get("plugins") if isinstance(section, Mapping) else None
    missing = [name for name in named if isinstance(name, str) and name not in sys.modules] if named else []
    if not missing:
        return []
    text = (
        f"{', '.join(missing)}: code of your own, which is imported where you name it yourself and never because a "
        f"checkpoint does: add 'run.plugins=[{', '.join(missing)}]' to the command, or import it before"
    )
    return [Fault("run.plugins", text)]


def _found(path: str | Path) -> Path:
    """A file, or one of ours by its name."""
    return Path(path) if Path(path).is_file() else recipes.find(path)


def _import_own(values: Mapping[str, Any]) -> None:
    """Import the data set that a user named as MODULE:FUNCTION; what is wrong with it the checks will say."""
    section = values.get("data")
    name = section.get("name") if isinstance(section, Mapping) else None
    if isinstance(name, str) and ":" in name:
        from gcp.data.own import try_import

        try_import(name)


def _override(
    values: Mapping[str, Any], overrides: Sequence[str], schema: type[Section]
) -> tuple[dict[str, Any], list[Fault]]:
    merged, faults = dict(values), []
    for text in overrides:
        try:
            key, value = parse_override(text)
        except ValueError as error:
            faults.append(Fault("", str(error)))
            continue
        key = "run.plugins" if key == "plugins" else key
        if key in sections(schema):
            keys = (f"{key}.name={value}",) if isinstance(value, str) else ()
            faults.append(Fault(key, f"override {text!r} sets a section; allowed: one of its keys", keys=keys))
            continue
        if key.startswith("stages.") and "stages" in schema.model_fields:
            fault = stages.override(merged, key, value)
            faults += [fault] if fault else []
            continue
        for name in reversed(key.split(".")):
            value = {name: value}
        merged = merge(merged, value)
    if merged.get("stages"):
        faults += stages.without_effect(merged, overrides)
    return merged, faults


def _read_with_base(
    path: Path, schema: type[Section], above: tuple[Path, ...] = ()
) -> tuple[dict[str, Any] | None, list[Fault]]:
    """A file over those that it extends, None where one of them cannot be read, and what is wrong with them.

    `above`: the files that have led here.
    """
    if not path.is_file():
        return None, [Fault("extends" if above else "", _missing(path))]
    mapping, faults = _read(path, schema)
    if mapping is None or "extends" not in mapping:
        return mapping, faults
    extends = mapping.pop("extends")
    if not isinstance(extends, str):
        text = f"got {show(extends)} ({kind(extends)}); allowed: one YAML file, relative to {path}"
        return None, [*faults, Fault("extends", text)]
    below, chain = _below(path, extends), (*above, path)
    if below.resolve() in [file.resolve() for file in chain]:
        names = " extends ".join(str(file) for file in (*chain, below))
        return None, [*faults, Fault("extends", f"{names}, which is a cycle; allowed: another file")]
    base, more = _read_with_base(below, schema, chain)
    return None if base is None else merge(base, mapping), [*faults, *more]


def _below(path: Path, extends: str) -> Path:
    """The file that one extends: beside it, or one of ours by its name."""
    beside = path.parent / extends
    return recipes.find(extends) if not beside.is_file() and recipes.find(extends).is_file() else beside


def _read(path: Path, schema: type[Section]) -> tuple[dict[str, Any] | None, list[Fault]]:
    mapping, faults = yaml_file.read(path)
    if mapping is None:
        return None, faults
    run = mapping.get("run")
    if "plugins" in mapping and isinstance(run, Mapping) and "plugins" in run:
        faults = [*faults, Fault("plugins", f"stands for run.plugins, which {path} has too; allowed: one of the two")]
    mapping = dict(_with_plugins(mapping))
    # A section with all of its keys commented out reads as null: it is empty.
    empty: dict[str, Any] = {key: {} for key, value in mapping.items() if value is None and key in sections(schema)}
    return mapping | empty, faults


def _missing(path: Path) -> str:
    if path.is_dir():
        found = sorted(str(file) for file in path.glob("*.y*ml"))
        return f"{str(path)!r} is a folder; allowed: a YAML file" + did_you_mean(map(repr, found[:4]))
    folder = next(folder for folder in [path.parent, *path.parent.parents, Path(".")] if folder.is_dir())
    near_by = {file.stem: str(file) for file in sorted(path.parent.glob("*.y*ml"))} if folder == path.parent else {}
    close = nearest(path.stem, near_by)  # the file's own folder wins
    meant = near_by[close] if close else recipes.close(path, recipes.recipes())
    near = "" if folder == path.parent or meant else f": there is no folder {str(path.parent)!r}"
    hint = did_you_mean([repr(meant)] if meant else list(map(repr, near_by.values()))[:4])
    return f"no file {str(path)!r}{near}{hint or '.'} Recipes that come with gcp: gcp list recipes"


def flat(config: Common) -> dict[str, object]:
    """Plain values by `section.key`, also of keys that are not read: beside another value they may be in the other of
    two configurations that are compared.
    """
    sections = config.plain(unread=True)
    stages = {"stages": sections.pop("stages", None)}
    return stages | {f"{name}.{key}": value for name, keys in sections.items() for key, value in keys.items()}


def changes(before: Common, now: Common, free: Iterable[str] = ()) -> list[str]:
    """A line for every key in which a run that is resumed would differ, those apart that may change, and `free`."""
    old, new = flat(before), flat(now)
    places = (*resumable(), *free)
    return [
        f"{key}: got {new.get(key)!r}; the run has {old.get(key)!r}"
        for key in old | new
        if old.get(key) != new.get(key) and not within(key, places)
    ]
