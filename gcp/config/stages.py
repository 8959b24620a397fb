"""Stages of a run: each changes some sections of the configuration.

    stages:
      - {model: {freeze: [features]}, train: {epochs: 100}}
      - {model: {freeze: []}, train: {epochs: 200}, optim: {lr: 1.0e-4}}

A stage begins with the final weights of the one before. Keys that decide the shapes of the weights, the images held
out or the machine of the run are therefore the same in all stages.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gcp.config.checks import unfit
from gcp.config.faults import Fault, kind, show, wrong
from gcp.config.schema import STAGES, Config, composed, sections
from gcp.config.yaml_file import merge

Check = Callable[[Mapping[str, Any]], tuple[Config, list[Fault]]]

# sections of which a stage sets only some keys, and why not the others; what is not here is free
KEYS: dict[str, tuple[str, ...]] = {
    "run": (),
    "data": ("image_size", "transform", "workers"),
    "model": ("freeze", "dropout"),
    "head": ("name", "side", "form", "precision"),
}
REASONS = {
    "run": "a run has one place, one seed and one way to compute",
    "data": "the images held out from training are the same in every stage",
    "model": "the weights of the stage before have to fit",
    "head": "the weights of the stage before have to fit",
}


def checked(
    base: Mapping[str, Any], given: Any, base_faults: Iterable[Fault], check: Check
) -> tuple[tuple[dict[str, Any], ...], list[Fault]]:
    """The mappings of the stages, and every fault that is not one of `base_faults`, once.

    Args:
        base: values of the run without its stages.
        given: value of the key `stages`.
        base_faults: what is wrong with the base alone.
        check: values -> the configuration and its faults.
    """
    if given is None:
        return (), []
    if not isinstance(given, list | tuple):
        return (), [wrong("stages", given, f"a list of mappings of sections, such as {STAGES}")]
    said = {str(fault) for fault in base_faults}
    mappings, configs, faults = [], [], []
    for number, stage in enumerate(given, 1):
        place = f"stages.{number}"
        if not isinstance(stage, Mapping):
            faults.append(wrong(place, stage, "a mapping of sections, such as {train: {epochs: 5}}"))
            continue
        refused = list(_refused(stage))
        mapping = _without(stage, {fault.key for fault in refused})
        config, found = check(merge(base, mapping))
        for fault in [*refused, *found]:
            own = fault in refused or any(_sets(mapping, key) for key in (fault.key, *fault.needs))
            fault = fault.within(place) if own else fault
            if str(fault) not in said:
                said.add(str(fault))
                faults.append(fault)
        mappings.append(mapping)
        configs.append(config)
    if not said and not faults:
        faults += _misfits(configs)
    return tuple(mappings), faults


def override(values: dict[str, Any], key: str, value: Any) -> Fault | None:
    """Put `stages.N.section.key` into the values, N from 1; the fault where there is no such place."""
    given = values.get("stages")
    stages = list(given) if isinstance(given, list | tuple) else []
    number, _, path = key.removeprefix("stages.").partition(".")
    if not stages:
        return Fault(key, "the configuration has no stages; type the key without stages.N.")
    if not number.isdigit() or not 1 <= int(number) <= len(stages) or path.count(".") < 1:
        return Fault(key, f"no such place; allowed: stages.N.section.key with N from 1 to {len(stages)}")
    for name in reversed(path.split(".")):
        value = {name: value}
    stage = stages[int(number) - 1]
    stages[int(number) - 1] = merge(stage, value) if isinstance(stage, Mapping) else stage
    values["stages"] = stages
    return None


def without_effect(values: Mapping[str, Any], overrides: Iterable[str]) -> Iterator[Fault]:
    """Overrides of the base that a stage puts its own value over."""
    given = values.get("stages")
    stages = [stage if isinstance(stage, Mapping) else {} for stage in given] if isinstance(given, list | tuple) else []
    for text in overrides:
        path, _, value = text.partition("=")
        key = path.partition(".")[2]
        numbers = [n for n, stage in enumerate(stages, 1) if key and _sets(stage, path)]
        if numbers:
            instead = " ".join(f"stages.{n}.{path}={value}" for n in numbers)
            which = f"stage {numbers[0]} sets" if len(numbers) == 1 else f"stages {', '.join(map(str, numbers))} set"
            yield Fault(path, f"override {text!r} does not reach every stage: {which} {path}; type {instead}")


def _refused(stage: Mapping[str, Any]) -> Iterator[Fault]:
    """What has to be the same in every stage."""
    if "stages" in stage:
        yield Fault("stages", "a stage has no stages of its own")
    if "plugins" in stage:
        yield Fault("plugins", "a run has the same plugins in every stage; set plugins outside stages")
    for section, keys in KEYS.items():
        values = stage.get(section)
        fixed = [key for key in sections(Config)[section].model_fields if key not in keys]
        for key, value in values.items() if isinstance(values, Mapping) else ():
            if key in fixed:
                allowed = f"allowed in a stage: {', '.join(keys)}" if keys else f"set {section}.{key} outside stages"
                text = f"got {show(value)} ({kind(value)}), but {REASONS[section]}; {allowed}"
                yield Fault(f"{section}.{key}", text)


def _sets(stage: Mapping[str, Any], path: str) -> bool:
    """Whether a stage has a section, or a key in it."""
    section, _, key = path.partition(".")
    values = stage.get(section)
    return section in stage and (not key or not isinstance(values, Mapping) or key in values)


def _without(stage: Mapping[str, Any], refused: set[str]) -> dict[str, Any]:
    """The stage without what is refused; a section whose keys are all commented out reads as null and is empty."""
    kept = {}
    for section, values in stage.items():
        if isinstance(values, Mapping):
            values = {key: value for key, value in values.items() if f"{section}.{key}" not in refused}
        if section not in refused:
            kept[section] = {} if values is None and section in sections(composed(Config)) else values
    return kept


def _misfits(configs: list[Config]) -> Iterator[Fault]:
    """Heads that do not fit the classifier of the first stage."""
    for number, config in enumerate(configs[1:], 2):
        if allowed := unfit(configs[0].head, config.head.name, config.head):
            yield wrong(f"stages.{number}.head.name", config.head.name, allowed)
