"""How a model comes to be scored: from a run of ours, a file of others, or weights of timm by their name."""

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gcp.callbacks.base import create_callbacks
from gcp.config import Config, from_dict
from gcp.config.faults import show
from gcp.config.plugins import RESUMABLE, within
from gcp.config.schema import composed, sections
from gcp.config.values import Options
from gcp.engine import checkpoint
from gcp.engine.distributed import Group
from gcp.engine.folder import find_run_folder
from gcp.engine.state import load_weights
from gcp.engine.timm_reference import TimmReference, create_timm_reference
from gcp.errors import CheckpointError, GCPError
from gcp.models import Classifier
from gcp.models.archive import Unreadable, contents
from gcp.models.checkpoints import FILES, check_weights, is_timm_weights, open_checkpoint
from gcp.models.convert import build_model
from gcp.models.preprocessing import from_timm, of_checkpoint
from gcp.models.summary import summarise
from gcp.runs import build
from gcp.runs.pretrained import RESOLVED, with_scored_size
from gcp.runs.scored_model import ScoredModel
from gcp.runs.share import HUB, WEIGHTS, fetch
from gcp.runs.weights import configuration

log = logging.getLogger("gcp")
CHANGED = (("model", "widths"), ("model", "factors"), ("head", "name"))  # by a run on its way
HOLDING = ("config.yaml", "best.pt", WEIGHTS)  # of a run; of a compressed model; of one that was shared
UNSIZED = ("seed", "threshold")  # whole numbers of a model and its heads that are no sizes
SAME = ("name", "root", "per_class", "val_fraction", "split_seed", "partial")  # of the section data: which images


def find_checkpoint(given: str) -> Path:
    """The file itself, or the best (else the last) checkpoint of a run folder or of its last stage; of another folder
    its best.pt or model.safetensors; of `hf-hub:USER/NAME` the file on the hub.

    Raises:
        CheckpointError: nothing there.
        GCPError: no such run.
    """
    if given.startswith(HUB):
        return fetch(given)
    if Path(given).is_file() or given.endswith(FILES):
        return Path(given)
    folder = find_run_folder(given, holding=HOLDING)
    for place in (folder, *reversed(folder.stages())):
        for path in (place.best, place.last, place.path / WEIGHTS):
            if path.is_file():
                return path
    raise CheckpointError(f"{folder.path} has no checkpoint yet")


def open_model(
    given: str,
    overrides: list[str],
    group: Group,
    order: str | None = None,
    data: Config | None = None,
    scored: bool = True,
) -> ScoredModel:
    """Build the model of a file, of a run, or of weights of timm by their name.

    Args:
        given: the file, the run folder or its name, or the name.
        overrides: key=value of data.*, evaluate.*, run.*.
        group: the processes that score.
        order: of the triangle in a file of others, upper or lower.
        data: a configuration whose images are to be taken.
        scored: whether a data set is needed. If not, and the file names none, photographs at the size that the
            backbone was made for are assumed.

    Raises:
        CheckpointError: missing, damaged, or without enough to build the model.
        ConfigError: overrides that do not fit.
    """
    hub = given.startswith(HUB)
    if not hub and not Path(given).exists() and not _is_run(given) and is_timm_weights(given):
        with group.main_first():  # a download
            reference = create_timm_reference(given)
        return _timm_model(given, reference, overrides, group, data, scored)
    path = find_checkpoint(given)
    saved = _of_ours(path, scored)
    if saved is None:
        return _foreign(path, overrides, group, order, data, scored)
    if order is not None:
        raise GCPError(f"--order is for files of others; {path} is of this library, whose order is upper.")
    config = from_dict(
        _with_data(saved["config"], data), _sized(overrides), source=f"the configuration in {path}", written=True
    )
    config = with_scored_size(config)
    device = build.build_device(config, group)
    averaged = saved.get("ema") is not None
    weights = saved["ema"] if averaged else saved["model"]
    with _built_from(path):
        model, head = build.build_model(config, len(saved["classes"]), device, weights=False), config.head.name
        for callback in create_callbacks(config):
            callback.adapt(model, saved)
            head = callback.scores(model).get("head", head)
    if config.evaluate.image_size is not None:
        build.check_map(model, build.scored_size(config), "evaluate.image_size")
    load_weights(model, weights, str(path))
    _set_temperature(model, saved, path)
    _mention_another_run(path, saved["config"])
    images = saved.get("images") if isinstance(saved.get("images"), dict) else None
    return ScoredModel(str(path), model.eval(), config, device, head, tuple(saved["classes"]), averaged, images)


def open_timm_model(
    name: str,
    file: str | None,
    overrides: list[str],
    group: Group,
    scored: bool = True,
) -> ScoredModel:
    """A model of timm with its own weights, or with those in a file; other arguments and errors: `open_model`."""
    with group.main_first():
        reference = create_timm_reference(name, file)
    return _timm_model(file or name, reference, overrides, group, None, scored)


def _sized(overrides: Sequence[str]) -> list[str]:
    """A size that the command line gives stands above `evaluate.image_size` of the run."""
    keys = {word.partition("=")[0] for word in overrides}
    if "data.image_size" not in keys or "evaluate.image_size" in keys:
        return list(overrides)
    return [*overrides, "evaluate.image_size=null", "evaluate.crop_pct=null"]


def _own_size(overrides: Sequence[str]) -> list[str]:
    """Without the key that asks for the size at which weights are tested: such a model is scored at it anyway."""
    return [word for word in overrides if word != "evaluate.image_size=weights"]


def _set_temperature(model: Classifier, saved: dict[str, Any], path: Path) -> None:
    """Let the model divide its logits by the temperature that its file tells, and say so."""
    told = saved.get("temperature", 1.0)
    if not isinstance(told, float) or not 0 < told < float("inf"):
        raise CheckpointError(f"{path} cannot be used: its temperature is {told!r}, not a positive number")
    model.temperature = told
    if told != 1.0:
        log.info("%s: logits are divided by the temperature %.3f, fitted on validation images", path, told)


def _is_run(given: str) -> bool:
    try:
        find_run_folder(given, holding=HOLDING)
    except GCPError:
        return False
    return True


def _of_ours(path: Path, scored: bool = True) -> dict[str, Any] | None:
    """The contents of a checkpoint that a run wrote, None for a file of another kind."""
    try:
        content = contents(path, False) if path.is_file() else {"format": 0}
    except Unreadable:
        content = {"format": 0}  # what is wrong is said by the one who reads it
    if path.suffix == ".safetensors" or not (isinstance(content, dict) and "format" in content):
        return None
    saved = checkpoint.load(path)
    if not isinstance(saved.get("config"), dict):
        raise CheckpointError(f"{path} does not tell its model: it has no configuration")
    if "flow" in saved["config"]:
        way_out = (
            f"Type\n  gcp evaluate-glow --checkpoint {shlex.quote(str(path))}"
            if scored
            else "gcp.engine.trained_flow.load_flow opens it"
        )
        raise CheckpointError(f"{path} is of a flow, which has no classes. {way_out}")
    if "classes" not in saved:
        return None
    _check_contents(saved, path)
    return saved


def _check_contents(saved: dict[str, Any], path: Path) -> None:
    """Raise CheckpointError where a checkpoint in our format was made or edited by other software."""
    classes = saved["classes"]
    if not isinstance(classes, list | tuple) or not classes or not all(isinstance(name, str) for name in classes):
        raise CheckpointError(f"{path} cannot be used: its classes are {str(classes)[:60]!r}, not a list of names")
    weights = saved["ema"] if saved.get("ema") is not None else saved["model"]
    check_weights(weights, path)
    numbers = sum(value.numel() for value in weights.values())
    known = sections(composed(Config))
    of_a_model = {"model", *(name for name in known if issubclass(known[name], Options))}
    for section, values in saved["config"].items():
        for key, value in values.items() if isinstance(values, dict) else ():
            sized = (section in of_a_model and key not in UNSIZED) or (section, key) == ("data", "in_chans")
            # A layer of a width has at least so many weights; what is more would only fill the memory.
            if sized and any(size > numbers for size in _integers(value)):
                raise CheckpointError(
                    f"{path} cannot be used: its configuration has {section}.{key}={show(value)}, for which its "
                    f"{numbers:,} weights are too few"
                )


def _integers(value: Any) -> Iterator[int]:
    """Every whole number in a nest of plain values."""
    if isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _integers(each)
    elif isinstance(value, int):
        yield value


@contextmanager
def _built_from(path: Path) -> Iterator[None]:
    """Name the file where the model that its configuration describes cannot be built."""
    try:
        yield
    except (RuntimeError, TypeError, KeyError, AttributeError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, GCPError):
            raise
        raise CheckpointError(
            f"the model that the configuration in {path} describes cannot be built ({type(error).__name__}: {error})"
        ) from error


def _mention_another_run(path: Path, saved: dict[str, Any]) -> None:
    """Say so where a checkpoint lies in the folder of a run with another configuration than its own."""
    import yaml

    try:
        there = yaml.safe_load((path.parent / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return
    if not isinstance(there, dict):
        return
    differing = []
    for section in ("data", "model", "head", "optim", "schedule", "train", "run"):
        own, other = saved.get(section), there.get(section)
        if isinstance(own, dict) and isinstance(other, dict):
            keys = ("name", "seed") if section == "run" else own
            differing += [
                f"{section}.{key} is {own[key]!r}, {other[key]!r} in config.yaml"
                for key in keys
                if key in own and key in other and own[key] != other[key]
                if (section, key) not in CHANGED and not within(f"{section}.{key}", RESUMABLE)
            ]
    if differing:
        more = f", and {len(differing) - 3} more" if len(differing) > 3 else ""
        log.warning("%s is of another run than the folder that it lies in: %s%s", path, "; ".join(differing[:3]), more)


def _foreign(
    path: Path, overrides: list[str], group: Group, order: str | None, data: Config | None, scored: bool
) -> ScoredModel:
    found = open_checkpoint(path)
    summary = summarise(found)
    if summary.backbone is None or summary.num_classes is None:
        way_out = (
            f"Of a timm model add --timm NAME; else convert it first: gcp convert {path} OUT --backbone NAME"
            if scored
            else f"Name its model: gcp.create_model(BACKBONE, HEAD, num_classes=N, pretrained={str(path)!r})"
        )
        raise CheckpointError(
            f"{path} does not tell its model: layout {summary.layout}, backbone {summary.backbone or 'unknown'}, "
            f"classes {summary.num_classes or 'unknown'}. {way_out}"
        )
    if summary.order == "unknown" and order is None:
        old = (
            "files of 2018 need --order lower" if scored else "files of 2018 have the other, which gcp convert changes"
        )
        log.warning("the order of the triangle is taken as upper, unchecked: %s", old)
    model = build_model(found, summary, order or "upper")
    _set_temperature(model, found.about if summary.layout == "own" else {}, path)
    told = found.about.get("config") if summary.layout == "own" else None
    base = configuration(model, told if isinstance(told, dict) else {})
    if not isinstance(told, dict):
        fixed = model.features.image_size is not None
        told = of_checkpoint(found, summary.backbone, tested=not fixed)
        images = _settings(told[0]) if told else {}
        base = {**base, "data": {**base["data"], **images}}
        size = model.features.native_size[0] if told is None else told[0].get("image_size", 0)
        size = size or model.features.native_size[0]
        base = _photographs(base, size, str(path), overrides, data is None and scored)
    config = from_dict(_with_data(base, data), _own_size(overrides), source=f"the configuration of {path}")
    device = build.build_device(config, group)
    names = found.about.get("classes")
    classes = tuple(map(str, names)) if isinstance(names, Sequence) and not isinstance(names, str) else None
    return ScoredModel(str(path), model.to(device), config, device, str(summary.head), classes, found.averaged)


def _timm_model(
    given: str, reference: TimmReference, overrides: list[str], group: Group, data: Config | None, scored: bool
) -> ScoredModel:
    base = {
        "model": {"backbone": reference.name},
        "head": {"name": "average", "dim": None},
        "data": {"in_chans": reference.in_chans, **_settings(from_timm(reference.preprocessing))},
    }
    base = _photographs(base, reference.image_size, given, overrides, data is None and scored, always=True)
    config = from_dict(_with_data(base, data), _own_size(overrides), source=f"the configuration of {given}")
    device = build.build_device(config, group)
    return ScoredModel(given, reference.to(device), config, device, "its own head")


def _settings(told: dict[str, Any]) -> dict[str, Any]:
    """What is told of images as keys of the section data, the size aside."""
    return {"preprocessing": "dataset", **{key: told[key] for key in RESOLVED if key in told}}


def _photographs(
    base: dict[str, Any], size: int, given: str, overrides: list[str], needed: bool, always: bool = False
) -> dict[str, Any]:
    """A configuration without a data set, made for photographs unless the command line names one.

    `always`: the size counts for a named data set too.
    Raises GCPError where a data set is `needed` and none is named.
    """
    named = any(word.startswith("data.name=") for word in overrides)
    if needed and not named:
        raise GCPError(f"{given} does not tell its images; add data.name=NAME data.root=FOLDER (--list datasets)")
    images: dict[str, Any] = {} if named else {"name": "folder", "root": "."}
    if always or not named:
        images["image_size"] = size
    return {**base, "data": {**base["data"], **images}}


def _with_data(values: dict[str, Any], data: Config | None) -> dict[str, Any]:
    if data is None:
        return values
    images = {key: data.plain()["data"][key] for key in SAME}
    return {**values, "data": {**values.get("data", {}), **images}}
