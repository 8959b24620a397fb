"""How the images of pretrained weights are prepared: what a library, or the file itself, records about them.

A name of timm has its pretrained configuration, torchvision's weights their transforms, a checkpoint of ours the
settings of its run. A file beside which `preprocessor_config.json` (transformers) or `config.json` (timm) lies is
explained by it; any other file of plain names by what timm says of the backbone that it is loaded into.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gcp.models.backbones import source
from gcp.models.bodies import IMAGENET_MEAN, IMAGENET_STD
from gcp.models.checkpoints import Checkpoint, is_timm_weights, open_checkpoint
from gcp.models.layouts import recognise

Told = tuple[dict[str, Any], str]  # by the names of KEYS, and who says so
KEYS = ("mean", "std", "interpolation", "crop_pct", "crop_mode", "image_size")
IMAGES = "preprocessing"  # key under which a checkpoint of ours says what its images were divided by
RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def expected(pretrained: bool | str | Path, backbone: str, tested: bool = False) -> Told | None:
    """What the weights of `model.pretrained` expect, by the names of KEYS, and who says so; None where nobody does.

    tested: as their authors evaluate them, at a larger size than they were trained at perhaps.
    Raises CheckpointError for a file that cannot be read.
    """
    if pretrained is True:
        return _of_name(backbone, tested)
    if not pretrained:
        return None
    if isinstance(pretrained, str) and not Path(pretrained).expanduser().exists() and is_timm_weights(pretrained):
        return of_timm(pretrained, tested), f"timm, of {pretrained}"
    return of_checkpoint(open_checkpoint(pretrained), backbone, tested)


def of_checkpoint(checkpoint: Checkpoint, backbone: str | None, tested: bool = False) -> Told | None:
    """The same of a file that has been read."""
    config, record = checkpoint.about.get("config"), checkpoint.about.get(IMAGES)
    data = config.get("data") if isinstance(config, Mapping) else None
    if isinstance(data, Mapping) or isinstance(record, Mapping):
        scored = config.get("evaluate") if tested and isinstance(config, Mapping) else None
        told = {**_told(record), **_told(data), **_told(scored)}
        return (told, str(checkpoint.path)) if told else None
    beside = _beside(checkpoint.path)
    if beside is not None:
        return beside
    if backbone is None or recognise(checkpoint.state).obj.own_images:
        return None
    return _of_name(backbone, tested)


def _told(values: Any) -> dict[str, Any]:
    """Those of KEYS that a mapping tells; a size that is no number is left to be found."""
    found = {key: values[key] for key in KEYS if values.get(key) is not None} if isinstance(values, Mapping) else {}
    return {key: value for key, value in found.items() if value != "auto"}


def _of_name(backbone: str, tested: bool) -> Told | None:
    """What the library of a backbone says of its weights; None for backbones of ours, of which there are none."""
    origin, name = source(backbone)
    if origin == "timm":
        return of_timm(name, tested), f"timm, of {name}"
    return (_of_torchvision(name), f"torchvision, of {name}") if origin == "torchvision" else None


def of_timm(name: str, tested: bool = False) -> dict[str, Any]:
    """What timm's evaluation does for a model or the weights of this name."""
    import timm

    cfg = timm.get_pretrained_cfg(name)
    return from_timm(timm.data.resolve_data_config(pretrained_cfg=cfg.to_dict() if cfg else {}, use_test_size=tested))


def from_timm(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The data configuration of timm under our names."""
    found = {key: resolved[key] for key in KEYS[:-1]}
    numbers = {key: [float(value) for value in found[key]] for key in ("mean", "std")}
    return {**found, **numbers, "image_size": int(resolved["input_size"][-1])}


def _of_torchvision(name: str) -> dict[str, Any]:
    from torchvision import models

    transform = models.get_model_weights(name).DEFAULT.transforms()
    crop, side = transform.crop_size[0], transform.resize_size[0]
    return {
        "mean": list(transform.mean),
        "std": list(transform.std),
        "interpolation": transform.interpolation.value,
        "crop_pct": crop / side,
        "crop_mode": "center",
        "image_size": crop,
    }


def _beside(path: Path) -> Told | None:
    """What a file of transformers or timm that lies beside the weights says."""
    for name, read in (("preprocessor_config.json", _of_transformers), ("config.json", _of_timm_hub)):
        file = path.parent / name
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        found = read(values) if isinstance(values, dict) else {}
        if found:
            return found, str(file)
    return None


def _of_timm_hub(values: dict[str, Any]) -> dict[str, Any]:
    import timm

    cfg = values.get("pretrained_cfg")
    if not isinstance(cfg, dict):
        return {}
    return from_timm(timm.data.resolve_data_config(pretrained_cfg=cfg))


def _of_transformers(values: dict[str, Any]) -> dict[str, Any]:
    """`size` is the side before the crop, or the side itself where nothing is cropped."""
    found: dict[str, Any] = {}
    if values.get("do_normalize", True):
        mean, std = values.get("image_mean", IMAGENET_MEAN), values.get("image_std", IMAGENET_STD)
        if all(isinstance(each, list | tuple) and len(each) in (1, 3) for each in (mean, std)):
            found = {"mean": [float(each) for each in mean], "std": [float(each) for each in std]}
    if values.get("resample") in RESAMPLING:
        found["interpolation"] = RESAMPLING[values["resample"]]
    resized, cropped = _side(values.get("size")), _side(values.get("crop_size"))
    if cropped and resized and values.get("do_center_crop"):
        found |= {"crop_pct": min(1.0, cropped / resized), "crop_mode": "center", "image_size": cropped}
    elif resized:
        share = values.get("crop_pct")  # ConvNeXt: the share that is kept below 384 pixels
        share = float(share) if isinstance(share, int | float) and resized < 384 else None
        found |= {"crop_pct": share or 1.0, "crop_mode": "center" if share else "squash", "image_size": resized}
    return found


def _side(size: Any) -> int | None:
    """Of `224`, `{height: 224, width: 224}` or `{shortest_edge: 224}`."""
    if isinstance(size, Mapping):
        size = size.get("shortest_edge", size.get("height"))
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None
