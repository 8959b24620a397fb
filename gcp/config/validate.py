"""Plain values to a `Config`, with every fault in one error.

A faulty key is reported, then set aside so that its default stands in for it, and the remaining keys are
checked against each other; what was concluded from a faulty key is not reported as well.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from math import isfinite
from typing import Any

from pydantic import ValidationError

from gcp.config import checks, stages
from gcp.config.checks import own_options
from gcp.config.faults import Fault, allowed, choices, kind, nearest_key, show, unknown, wrong
from gcp.config.schema import TRAINED_BY, Config, composed, keys, option_sections, sections, trained_by
from gcp.config.values import FORMS, FORMS_WITH_MINUTES, Options, Section, nearest_duration
from gcp.errors import ConfigError, nearest

NO_SPELLINGS: Mapping[str, str] = {}
_YES, _NO = {"yes", "on", "y", "1", "true"}, {"no", "off", "n", "0", "false", "null"}


def validate(
    values: Mapping[str, Any],
    faults: Iterable[Fault] = (),
    source: str = "the configuration",
    complete: bool = True,
    schema: type[Section] = Config,
    spelt: Mapping[str, str] = NO_SPELLINGS,
) -> Any:
    """The configuration in `values`, of the kind `schema`, or `ConfigError` with `faults` and every further one.

    Without `complete` some values could not be read, and keys are not checked against each other. `spelt`: keys that
    the user has typed in another way.
    """
    schema = composed(schema)
    if complete and (fault := _for_another(values, schema)):
        raise ConfigError(map(str, [*faults, fault]), source)
    base, given = values, None
    if "stages" in schema.model_fields:
        base, given = {key: value for key, value in values.items() if key != "stages"}, values.get("stages")
    # With stages the base is never run: its keys are checked against each other in each of them.
    config, more = _run(base, complete and not given, schema)
    more = [replace(fault, key=spelt.get(fault.key, fault.key)) for fault in more]
    found = sorted([*faults, *more], key=lambda fault: _place(fault, schema))
    if given is not None:
        check = partial(_run, complete=complete, schema=schema)
        mappings, wrong_stages = stages.checked(base, given, more, check)
        found += wrong_stages
        config = config.model_copy(update={"stages": mappings})
    if found:
        raise ConfigError(map(str, found), source)
    return config


def _for_another(values: Mapping[str, Any], schema: type[Section]) -> Fault | None:
    """What is wrong with the settings of another kind of run: in them every key that differs would be a fault."""
    for other, script in TRAINED_BY.items():
        ours, theirs = set(sections(schema)), set(sections(composed(other)))
        found = [name for name in values if name in theirs - ours]
        if found and not any(name in ours - theirs for name in values):
            what = "a section" if len(found) == 1 else "sections"
            return Fault(
                ", ".join(found),
                f"{what} for {script}; these settings are not for {trained_by(schema)}: type {script} instead",
            )
    return None


def _run(values: Mapping[str, Any], complete: bool, schema: type[Section]) -> tuple[Any, list[Fault]]:
    """The configuration in the values of one run, and every fault of it."""
    config, bad, faults = _typed(values, schema)
    if complete:
        faults += [fault for fault in checks.faults(config) if not _spoilt(fault, bad)]
    # A null that removed an inherited option has done its work.
    without = {name: _without_nulls(section) for name, section in option_sections(config).items()}
    return config.model_copy(update=without), faults


def _without_nulls(section: Options) -> Options:
    own = {key: value for key, value in dict(section).items() if key in type(section).model_fields}
    return type(section)(**own, **section.options)


def known_keys(
    values: Mapping[str, Any] | None = None, schema: type[Section] = Config
) -> dict[str, list[str]]:  # fmt: skip
    """The keys of each section; those that name a head with the own options of the one that `values` name."""
    schema = composed(schema)
    known = {name: keys(schema, name) for name in sections(schema)}
    for section, kind_of in sections(schema).items():
        if not issubclass(kind_of, Options):
            continue
        given = (values or {}).get(section)
        name = given.get(kind_of.HEAD) if isinstance(given, Mapping) else None
        name = name if isinstance(name, str) else kind_of().head
        known[section] += own_options(name) if name else []
    return known


def key_schemas(schema: type[Section] = Config) -> dict[str, dict[str, dict[str, Any]]]:
    """The JSON schema of every key, by section and key."""
    return _key_schemas(composed(schema))


@lru_cache(maxsize=2)
def _key_schemas(schema: type[Section]) -> dict[str, dict[str, dict[str, Any]]]:
    every = {name: section.model_json_schema()["properties"] for name, section in sections(schema).items()}
    return {name: {key: properties[key] for key in keys(schema, name)} for name, properties in every.items()}


def _typed(values: Mapping[str, Any], schema: type[Section]) -> tuple[Any, set[str], list[Fault]]:
    """The configuration of the sound keys, the paths of the others, and what is wrong with them."""
    kept, faults, bad = _sections(values, schema)
    try:
        return schema.model_validate(kept), bad, faults
    except ValidationError as error:
        paths = dict.fromkeys(tuple(map(str, item["loc"][:2])) for item in error.errors(include_url=False))
    for section, key in paths:
        value = kept[section].pop(key)
        path = f"{section}.{key}"
        bad.add(path)
        if key in key_schemas(schema)[section]:
            form = key_schemas(schema)[section][key]
            faults.append(wrong(path, value, allowed(form), _meant(value, form)))
        else:
            known = known_keys(values, schema)
            faults.append(unknown(path, value, known[section], nearest_key((section, key), known)))
    return schema.model_validate(kept), bad, faults


def _sections(
    values: Mapping[str, Any], schema: type[Section]
) -> tuple[dict[str, dict[str, Any]], list[Fault], set[str]]:
    """The sections that are mappings with text keys, and what is wrong with everything else."""
    kept: dict[str, dict[str, Any]] = {}
    faults, bad = [], set()
    for name, section in values.items():
        known = known_keys(values, schema)
        if name not in known:
            every = known | ({"stages": []} if "stages" in schema.model_fields else {}) | {"plugins": []}
            other = [
                script
                for kind, script in TRAINED_BY.items()
                if not issubclass(schema, kind) and name in sections(composed(kind))
            ]
            if other:
                faults.append(Fault(str(name), f"a section for {other[0]}; allowed here: {', '.join(every)}"))
                continue
            faults.append(unknown(str(name), section, every, nearest_key((str(name),), every)))
        elif not isinstance(section, Mapping):
            bad.add(str(name))
            meant = [f"{name}.name={section}"] if "name" in known[name] and isinstance(section, str) else []
            faults.append(wrong(name, section, f"a section with the keys {', '.join(known[name])}", keys=meant))
        else:
            idle = [key for key in sections(schema)[name].model_fields if key not in known[name]]
            kept[name] = {key: value for key, value in section.items() if isinstance(key, str) and key not in idle}
            faults += [
                unknown(f"{name}.{key if isinstance(key, str) else show(key)}", section[key], known[name])
                for key in section
                if key not in kept[name]
            ]
    return kept, faults, bad


def _spoilt(fault: Fault, bad: set[str]) -> bool:
    return any(key in bad or key.split(".")[0] in bad for key in (fault.key, *fault.needs))


def _place(fault: Fault, schema: type[Section]) -> int:
    """Faults of files and overrides first, then in the order of the sections."""
    order = ["", "extends", *sections(schema)]
    section = fault.key.split(".")[0]
    return order.index(section) if section in order else 1


def _meant(value: object, schema: Mapping[str, Any]) -> Sequence[str]:
    """What was probably intended by a value that its key does not take."""
    comments = {option.get("$comment") for option in [schema, *schema.get("anyOf", [])]}
    if comments & {FORMS, FORMS_WITH_MINUTES} and (near := nearest_duration(value, FORMS_WITH_MINUTES in comments)):
        return [repr(near)]
    words, given = choices(dict(schema)), show(value).strip("'\"").lower()
    if "none" in words and given in _NO:
        return ["none"]
    if "true" in words and given in _YES | _NO:
        return ["true" if given in _YES else "false"]
    if isinstance(value, str) and (near := nearest(value, words)):
        return [near]
    options = [schema, *schema.get("anyOf", [])]
    types = {option.get("type") for option in options if not {"const", "enum"} & option.keys()}
    if {"array", "number"} <= types:  # a number, or a list of them
        return _numbers(value)
    if "array" in types and isinstance(value, (str, int)) and not isinstance(value, bool):
        return [f"[{value}]"]
    if "integer" in types and isinstance(value, float) and value.is_integer():
        return [str(int(value))]
    if "string" in types and kind(value) in ("whole number", "number") and not comments & {FORMS, FORMS_WITH_MINUTES}:
        return [f"'{value}' in quotes"]
    return _unquoted(value, types)


def _numbers(value: object) -> Sequence[str]:
    """`0.5, 0.5` or `0.5 0.5` as a list."""
    words = value.replace(",", " ").split() if isinstance(value, str) else []
    return [f"[{', '.join(words)}]"] if words and all(_unquoted(word, {"number"}) for word in words) else []


def _unquoted(value: object, types: set[str | None]) -> Sequence[str]:
    try:
        number = float(value) if isinstance(value, str) and types & {"number", "integer"} else None
    except ValueError:
        return []
    return [f"{value} without quotes"] if number is not None and isfinite(number) else []
