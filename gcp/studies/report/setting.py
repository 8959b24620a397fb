"""How a study was made: data, backbone, training, seeds, pairing, machine, from the files of its runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gcp.errors import counted
from gcp.studies.report.blocks import Table
from gcp.studies.report.records import Record
from gcp.studies.report.study import Study
from gcp.studies.report.wording import listed

Config = Mapping[str, Any]


def lead(study: Study) -> str:
    """What was compared, on what, how often."""
    config = _config(study)
    text = counted(len(study.rows), "variant") + (f", which differ in {listed(study.keys)}" if study.keys else "")
    data = _pick(study, config, ("data.name", "{}"), ("data.per_class", "{} training images of each class"))
    backbone = _pick(study, config, ("model.backbone", "{}"))
    text += f"; trained on {data}" if data else ""
    text += f"; backbone {backbone}" if backbone else ""
    text += f"; {counted(len(study.seeds), 'seed')} each." if study.seeds else "."
    return f"{text} Every variant is compared to {study.rival}, seed by seed."


def setting(study: Study) -> Table:
    """Facts below each other, those that some file tells."""
    config = _config(study)
    facts = [
        ("data", _data(study, config)),
        ("model", _model(study, config)),
        ("head", _rest(study, config, "head")),
        ("training", _training(study, config)),
        ("seeds", ", ".join(study.seeds)),
        ("pairing", _pairing(study)),
        ("scored", "top-1 accuracy on the test split, in percent, once, with the weights of the last epoch"),
        *_machine(study),
        ("runs at once", study.text("jobs")),
        ("configuration", study.text("config")),
        ("settings changed", _overrides(study)),
    ]
    rows = [[name, text] for name, text in facts if text]
    return Table(
        "Settings that all variants share, from the files of the runs.", ["what", "value"], rows, words=frozenset({1})
    )


def _pairing(study: Study) -> str:
    if len(study.seeds) < 2:
        return ""
    return (
        "runs of one seed start from the same weights of backbone and classifier and see the same images in the same "
        "order; differences are taken seed by seed"
    )


def _config(study: Study) -> Config:
    """Resolved configuration of the first run that has one."""
    for cell in [*study.in_state("done"), *study.cells]:
        try:
            found = yaml.safe_load((_run(study, cell) / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        if isinstance(found, Mapping):
            return found
    return {}


def _run(study: Study, cell: Record) -> Path:
    return study.folder / "cells" / Path(cell.get("id", "")).name


def _section(config: Config, name: str) -> Config:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def _pick(study: Study, config: Config, *keys: tuple[str, str]) -> str:
    """Texts of the keys that are set and do not differ between variants; `{}` in a text is the value."""
    found = []
    for key, text in keys:
        section, _, name = key.partition(".")
        value = _section(config, section).get(name)
        if key not in study.keys and value not in (None, False, "", [], "none"):
            found.append(text.format(value))
    return ", ".join(found)


def _data(study: Study, config: Config) -> str:
    return _pick(
        study,
        config,
        ("data.name", "{}"),
        ("data.per_class", "{} training images of each class"),
        ("data.image_size", "{} pixels"),
        ("data.val_fraction", "{} of the training images held out for validation"),
    )


def _model(study: Study, config: Config) -> str:
    return _pick(
        study, config, ("model.backbone", "{}"), ("model.pretrained", "pretrained {}"), ("model.hidden", "hidden {}")
    )


def _training(study: Study, config: Config) -> str:
    return _pick(
        study,
        config,
        ("train.epochs", "{} epochs"),
        ("train.batch_size", "batch {}"),
        ("optim.name", "{}"),
        ("optim.lr", "learning rate {}"),
        ("optim.weight_decay", "weight decay {}"),
        ("schedule.name", "{} schedule"),
        ("run.amp", "amp {}"),
    )


def _rest(study: Study, config: Config, section: str) -> str:
    """All settings of a section that the variants share."""
    found = _section(config, section)
    shared = {key: value for key, value in found.items() if f"{section}.{key}" not in study.keys and value is not None}
    return ", ".join(f"{key}={value}" for key, value in shared.items())


def _overrides(study: Study) -> str:
    given = study.about.get("overrides")
    if isinstance(given, Mapping):
        given = [f"{key}={value}" for key, value in given.items()]
    return " ".join(map(str, given)) if isinstance(given, list) else str(given or "")


def _machine(study: Study) -> list[tuple[str, str]]:
    """Hardware, software and commit of the runs; several where they differ."""
    found: dict[str, list[str]] = {"hardware": [], "software": [], "commit": []}
    for cell in study.cells:
        try:
            about = json.loads((_run(study, cell) / "environment.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(about, dict):
            for (name, places), text in zip(found.items(), _machine_of(about), strict=True):
                if text and text not in places:
                    found[name] = [*places, text]
    return [(name, "; ".join(places)) for name, places in found.items()]


def _machine_of(about: dict) -> tuple[str, str, str]:
    device = str(about.get("device") or "")
    processor = str(about.get("processor") or "")
    hardware = [processor if device == "cpu" else ", ".join(filter(None, (device, processor)))]
    cores, threads = about.get("cores"), about.get("threads")
    hardware += [counted(cores, "core")] if isinstance(cores, int) else []
    hardware += [f"{counted(threads, 'thread')} a run"] if isinstance(threads, int) else []
    given = about.get("packages")
    packages = given if isinstance(given, dict) else {}
    software = [f"Python {about['python']}"] if about.get("python") else []
    software += [f"{name} {packages[name]}" for name in ("torch", "torchvision", "timm") if packages.get(name)]
    return ", ".join(filter(None, hardware)), ", ".join(software), str(about.get("commit") or "")
