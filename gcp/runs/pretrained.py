"""What `model.pretrained` names: whether it is there, and else what to type; and what it expects of images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gcp.config import Config, from_dict, recipes, stage_configs, yaml_file
from gcp.config.yaml_file import merge
from gcp.data import DATASETS
from gcp.errors import CheckpointError, ConfigError, nearest
from gcp.models.backbones import OURS
from gcp.models.checkpoints import FILES, is_there
from gcp.models.preprocessing import expected

PHOTOGRAPHS = 128  # pixels: data sets of smaller images keep their size, and weights of smaller images tell none
RESOLVED = ("mean", "std", "interpolation", "crop_pct", "crop_mode")


def check_pretrained(config: Config) -> None:
    """Raise CheckpointError, with what to type, where `model.pretrained` names a file that is not there."""
    file = config.model.pretrained
    if isinstance(file, bool) or is_there(file):
        return
    recipe, backbone = recipe_of(Path(file).parent.name), config.model.backbone
    train = f"Train it: gcp train --config {recipe} data.root=ROOT. Or give" if recipe else "Give"
    plain = "" if backbone in OURS else f", or model.pretrained=true for the plain ImageNet weights of {backbone}"
    meant = run_near(Path(file), Path(config.run.dir)) or weights_near(Path(file))
    hint = f" Did you mean model.pretrained={meant}?" if meant else ""
    raise CheckpointError(
        f"no checkpoint at {file}, which model.pretrained names. {train} model.pretrained=FILE for weights that you "
        f"have{plain}.{hint}"
    )


def run_near(file: Path, parent: Path) -> Path | None:
    """The run under `parent` or beside the given one that is named as the given run or nearly so; None: there is none.

    file: a run, its name, or a checkpoint in it.
    """
    given = file.parent if file.name in ("best.pt", "last.pt") else file
    runs = {path.parent.name: path.parent for folder in (given.parent, parent) for path in folder.glob("*/config.yaml")}
    near = nearest(given.name, runs)
    return runs[near] if near else None


def weights_near(file: Path) -> Path | None:
    """The file of weights beside a missing one, or in a folder given for one, that is named nearly so; the only one
    there in the second case. None: there is none.
    """
    folder = file if file.is_dir() else file.parent
    files = {path.name: path for path in folder.glob("*") if path.name.endswith(FILES)}
    near = nearest(file.name, files, 0.7) if folder is not file else next(iter(files)) if len(files) == 1 else None
    return files[near] if near else None


def recipe_of(run: str) -> str | None:
    """The recipe of ours whose `run.name` is `run`, None where there is none."""
    for name in recipes.recipes() if run else ():
        section = (yaml_file.read(recipes.find(name))[0] or {}).get("run")
        if isinstance(section, dict) and section.get("name") == run:
            return name
    return None


def with_preprocessing(config: Config) -> Config:
    """The configuration with what its pretrained weights expect of images, where the user says nothing else; a line is
    printed that says what and who told it.

    Once it is so, nothing is left to be told: the run, its checkpoints and who takes weights from them read the same
    numbers, though the file of the weights may be gone.
    Raises CheckpointError for a file that cannot be read.
    """
    config = with_scored_size(config)
    first = stage_configs(config)[0] if config.stages else config
    data, model = first.data, first.model
    asked = [key for key in RESOLVED if getattr(data, key) is None]
    auto = data.image_size == "auto"
    if data.preprocessing != "weights" or not model.pretrained or not (asked or auto):
        return config
    found = expected(model.pretrained, model.backbone)
    if found is None:
        return config
    values, origin = found
    source = DATASETS[data.name].obj
    told = {key: value for key, value in values.items() if key in asked and key in source.heeded(data.transform)}
    if auto and min(values.get("image_size", 0), source.image_size) >= PHOTOGRAPHS:
        told["image_size"] = values["image_size"]
    if told:
        print(f"images     {images_text(told)}: as {origin}")
    return from_dict(merge(config.plain(), {"data": {**told, "preprocessing": "dataset"}}))


def with_scored_size(config: Config) -> Config:
    """The configuration with a number in the place of `evaluate.image_size: weights`, and with the crop at that size;
    printed as that of `with_preprocessing` is.

    Raises:
        ConfigError: there are no weights that tell a size.
        CheckpointError: a file that cannot be read.
    """
    if config.evaluate.image_size != "weights":
        return config
    model = config.model
    told, origin = expected(model.pretrained, model.backbone, tested=True) or ({}, "")
    if "image_size" not in told:
        given = (
            f"model.pretrained: {model.pretrained} tells no size" if model.pretrained else "model.pretrained is not set"
        )
        raise ConfigError([f"evaluate.image_size: weights, and {given}; allowed: a number of pixels, or null"])
    taken: dict[str, Any] = {key: told[key] for key in ("image_size", "crop_pct") if key in told}
    if config.evaluate.crop_pct is not None:
        taken["crop_pct"] = config.evaluate.crop_pct
    print(f"test       {images_text(taken)}: as {origin}")
    return from_dict(merge(config.plain(), {"evaluate": taken}))


def images_text(told: Mapping[str, Any]) -> str:
    """What is told of the images, in the words of the settings: `mean 0.5 0.5 0.5, std ..., bicubic, crop_pct 0.9`."""
    words = []
    for key, value in told.items():
        shown = " ".join(f"{each:.4g}" for each in value) if isinstance(value, list | tuple) else value
        shown = f"{shown:.4g}" if isinstance(shown, float) else shown
        words.append(f"{shown}" if key in ("interpolation", "crop_mode") else f"{key} {shown}")
    return ", ".join(words)
