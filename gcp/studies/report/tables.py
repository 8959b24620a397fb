"""The tables of the report: how the study was made, results by variant, published numbers, runs without a result."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gcp.errors import counted
from gcp.studies.report.answer import (
    NOTHING,
    interval,
    listed,
    percent,
    probability,
    signed,
    significant,
    spread,
    whole,
)
from gcp.studies.report.render import Table
from gcp.studies.report.results import StudyResults, TableRow, number

Config = Mapping[str, Any]


def lead(study: StudyResults) -> str:
    """What was compared, on what, how often."""
    config = _config(study)
    text = counted(len(study.rows), "variant") + (f", which differ in {listed(study.keys)}" if study.keys else "")
    data = _pick(study, config, ("data.name", "{}"), ("data.per_class", "{} training images of each class"))
    backbone = _pick(study, config, ("model.backbone", "{}"))
    text += f"; trained on {data}" if data else ""
    text += f"; backbone {backbone}" if backbone else ""
    text += f"; {counted(len(study.seeds), 'seed')} each." if study.seeds else "."
    return f"{text} Every variant is compared to {study.compared_to}, seed by seed."


def setting(study: StudyResults) -> Table:
    """Facts below each other, those that some file holds."""
    config = _config(study)
    facts = [
        ("data", _data(study, config)),
        ("validation", _selection(study)),
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


def _pairing(study: StudyResults) -> str:
    if len(study.seeds) < 2:
        return ""
    return (
        "runs of one seed start from the same weights of backbone and classifier and see the same images in the same "
        "order; differences are taken seed by seed"
    )


def _config(study: StudyResults) -> Config:
    """Resolved configuration of the first run that has one."""
    for cell in [*study.in_state("done"), *study.cells]:
        try:
            found = yaml.safe_load((_run(study, cell) / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        if isinstance(found, Mapping):
            return found
    return {}


def _run(study: StudyResults, cell: TableRow) -> Path:
    return study.folder / "cells" / Path(cell.get("id", "")).name


def _section(config: Config, name: str) -> Config:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def _pick(study: StudyResults, config: Config, *keys: tuple[str, str]) -> str:
    """Texts of the keys that are set and do not differ between variants; `{}` in a text is the value."""
    found = []
    for key, text in keys:
        section, _, name = key.partition(".")
        value = _section(config, section).get(name)
        if key not in study.own_keys and value not in (None, False, "", [], "none"):
            found.append(text.format(value))
    return ", ".join(found)


def _data(study: StudyResults, config: Config) -> str:
    return _pick(
        study,
        config,
        ("data.name", "{}"),
        ("data.per_class", "{} training images of each class"),
        ("data.image_size", "{} pixels"),
    )


def _selection(study: StudyResults) -> str:
    """How validation was held out and what is chosen by it, in the words of a run."""
    for cell in study.in_state("done"):
        try:
            found = json.loads((_run(study, cell) / "result.json").read_text(encoding="utf-8")).get("selection")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(found, str):
            return found
    return ""


def _model(study: StudyResults, config: Config) -> str:
    return _pick(
        study, config, ("model.backbone", "{}"), ("model.pretrained", "pretrained {}"), ("model.hidden", "hidden {}")
    )


def _training(study: StudyResults, config: Config) -> str:
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


def _rest(study: StudyResults, config: Config, section: str) -> str:
    """All settings of a section that the variants share."""
    found = _section(config, section)
    shared = {
        key: value for key, value in found.items() if f"{section}.{key}" not in study.own_keys and value is not None
    }
    return ", ".join(f"{key}={value}" for key, value in shared.items())


def _overrides(study: StudyResults) -> str:
    given = study.about.get("overrides")
    if isinstance(given, Mapping):
        given = [f"{key}={value}" for key, value in given.items()]
    return " ".join(map(str, given)) if isinstance(given, list) else str(given or "")


def _machine(study: StudyResults) -> list[tuple[str, str]]:
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


VERDICTS = {
    "reference": "reference",
    "better": "better",
    "equal": "equal with every seed",
    "undecided": "cannot be told apart",
    "worse": "worse",
    "untested": "not tested",
    "failed": "failed",
}
MESSAGE = 400  # letters of a failed run's message; the rest is in cells.csv


def results(study: StudyResults) -> Table:
    """One row for each variant, columns that hold nothing left out."""
    keys = study.keys if len(study.keys) > 1 else []
    columns: list[tuple[str, list[str]]] = [
        *((key, [row.get(key, "") for row in study.rows]) for key in keys),
        *([] if keys else [("variant", [row["variant"] for row in study.rows])]),
        *([("tuned", [row.get("tuned") or NOTHING for row in study.rows])] if study.tuned else []),
        ("runs", [_runs(row) for row in study.rows]),
        ("accuracy, %", [spread(number(row, "mean"), number(row, "std")) for row in study.rows]),
        ("best on validation, %", [percent(number(row, "best_mean")) for row in study.rows]),
        ("difference, points", [_compared(study, row, signed(number(row, "difference"))) for row in study.rows]),
        (
            "95 % interval",
            [_compared(study, row, interval(number(row, "low"), number(row, "high"))) for row in study.rows],
        ),
        ("p (Holm)", [_compared(study, row, probability(number(row, "p_holm"))) for row in study.rows]),
        ("verdict", [VERDICTS[study.standing(row)] for row in study.rows]),
        ("step, ms", [significant(_milliseconds(row)) for row in study.rows]),
        ("memory, MiB", [whole(number(row, "peak_memory_mib")) for row in study.rows]),
        ("published", [row.get("published") or NOTHING for row in study.rows]),
    ]
    kept = [(name, cells) for name, cells in columns if name in keys or any(cell != NOTHING for cell in cells)]
    names = [name for name, _ in kept]
    marked = frozenset(place for place, row in enumerate(study.rows) if study.is_reference(row))
    return Table(
        _caption(study, names),
        names,
        [list(cells) for cells in zip(*(cells for _, cells in kept), strict=True)],
        heads=max(1, len(keys)),
        words=frozenset({names.index("verdict")}),
        marked=marked,
    )


def _caption(study: StudyResults, names: list[str]) -> str:
    text = "Accuracy: top-1 on the test split with the final weights, mean ± standard deviation over the seeds."
    if "best on validation, %" in names:
        text += " Best on validation: the same with the weights that were best on held-out images."
    if "95 % interval" in names:
        text += (
            f" Differences are to {study.compared_to}, paired by seed; an interval that crosses zero leaves open which "
            f"of the two is better.{_over(study)} The verdict counts how many questions were asked at once (Holm's "
            "correction, 5 %)."
        )
    if "step, ms" in names:
        text += " A step: forward, backward and update, median; memory: the highest of the runs."
    return text


def _over(study: StudyResults) -> str:
    kinds = {row.get("interval") for row in study.rows} - {None, ""}
    return f" Intervals are over {listed(sorted(map(str, kinds)))}." if kinds else ""


def _runs(row: TableRow) -> str:
    done, failed = number(row, "n"), number(row, "failed")
    return f"{whole(done)} ({whole(failed)} failed)" if failed else whole(done)


def _compared(study: StudyResults, row: TableRow, text: str) -> str:
    return NOTHING if study.is_reference(row) else text


def _milliseconds(row: TableRow) -> float | None:
    seconds = number(row, "seconds_per_step")
    return None if seconds is None else 1e3 * seconds


def published(study: StudyResults) -> Table | None:
    """Published numbers beside ours, with what they are for."""
    if not study.published:
        return None
    rows = []
    for label, entry in study.published.items():
        row = study.row(label)
        ours = spread(number(row, "mean"), number(row, "std")) if row else NOTHING
        rows.append(
            [label, str(entry.get("value", "")), ours, str(entry.get("what", "")), str(entry.get("source", ""))]
        )
    return Table(
        "Published numbers beside ours. They compare only where data, resolution, schedule and crop are the same.",
        ["variant", "published", "ours, accuracy %", "what the published number is", "source"],
        rows,
        words=frozenset({3, 4}),
    )


def failures(study: StudyResults) -> Table | None:
    """Runs that ended with a message."""
    rows = [
        [cell.get("id", ""), cell.get("variant", ""), cell.get("seed", ""), _short(cell.get("message", ""))]
        for cell in study.in_state("failed")
    ]
    if not rows:
        return None
    return Table(
        "Runs that failed, with their messages.", ["run", "variant", "seed", "message"], rows, words=frozenset({1, 3})
    )


def _short(message: str) -> str:
    text = " ".join(message.split()) or "no message"
    return text if len(text) <= MESSAGE else f"{text[:MESSAGE]} … (whole in cells.csv)"
