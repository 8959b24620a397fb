"""Converted weights as files: a checkpoint of ours, or any contents, written whole or not at all."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from gcp.config import from_dict
from gcp.engine.checkpoint import FORMAT
from gcp.errors import CheckpointError
from gcp.models import Classifier
from gcp.models.checkpoints import Checkpoint
from gcp.models.checkpoints.archive import save_safetensors
from gcp.models.convert import origin
from gcp.models.summary import CONVERTED, Summary

CARRIED = ("config", "classes", "images", "scores", CONVERTED)  # from a file of ours to another


def write_own(
    out: Path,
    checkpoint: Checkpoint,
    summary: Summary,
    model: Classifier,
    order: str,
    classes: Sequence[str] | None,
    changed: bool,
) -> None:
    """A checkpoint like a run's best.pt: weights, configuration, class names where known, and where it comes from.

    `changed`: the command line says more of the model than the file.
    """
    carried = CARRIED if summary.layout == "own" else ()
    about: dict[str, Any] = {key: checkpoint.about[key] for key in carried if key in checkpoint.about}
    if changed or "config" not in about:
        about["config"] = configuration(model, about.get("config", {}))
    about.setdefault(CONVERTED, origin(checkpoint, summary, order))
    if classes is not None:
        about["classes"] = list(classes)
    if out.suffix == ".safetensors":
        _replace(out, lambda path: save_safetensors(path, model.state_dict(), about))
    else:
        replace_file(out, {"format": FORMAT, "model": model.state_dict(), **about})


def configuration(model: Classifier, base: dict[str, Any]) -> dict[str, Any]:
    """The resolved configuration `base` ({}: the defaults) with the keys that make it build `model`."""
    arguments = dict(model.arguments)
    in_chans = arguments.pop("in_chans")
    keys = ("backbone", "last_stride", "hidden", "dropout", "factors", "widths", "classifier_norm")
    named = {key: arguments.pop(key) for key in keys}
    head = {"name": arguments.pop("head"), "dim": arguments.pop("dim")}
    arguments.pop("num_classes")
    values = {
        **base,
        "model": {**base.get("model", {}), **named},
        "head": {**head, **arguments},
        "data": {**base.get("data", {}), "in_chans": in_chans},
    }
    return from_dict(values, source="the converted model").plain()


def replace_file(out: Path, content: dict[str, Any]) -> None:
    """Write a file of torch."""
    _replace(out, lambda path: torch.save(content, path))


def _replace(out: Path, write: Callable[[Path], object]) -> None:
    """Write beside the file and rename, so that a kill leaves the old file or the new one.

    Raises CheckpointError where the system refuses.
    """
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        temporary.touch()  # torch answers a refusal of the system by an error of its own
        write(temporary)
        os.replace(temporary, out)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write {out}: {error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
