"""A trained flow from its run folder or its file, for use."""

import shlex
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gcp.data import DATASETS
from gcp.data.seeds import preserved
from gcp.engine import checkpoint
from gcp.engine.folder import find_run_folder
from gcp.engine.likelihood import Bits
from gcp.engine.state import load_weights
from gcp.errors import CheckpointError, UnknownNameError
from gcp.flow import Glow, create_flow
from gcp.models.checkpoints import FILES

CHOICES = ("best", "last")


class TrainedFlow(NamedTuple):
    """A flow, and what is known of it.

    model: in eval mode, float32. bits: makes bits per dimension of its log-densities, and knows the grey `levels`.
    path: the file. averaged: whether the weights are the average over training (`train.ema`). config: the settings of
    its run in plain values.
    """

    model: Glow
    bits: Bits
    path: Path
    averaged: bool
    config: dict[str, Any]


def load_flow(given: str | Path, which: str = "best", device: str | torch.device = "cpu") -> TrainedFlow:
    """The flow that `gcp train-glow` trained. The file is checked, and nothing in it is executed.

    Args:
        given: a file, a run folder, or its name under runs/.
        which: of a run folder `best` (on validation; `last` where there is none yet) or `last`. Of a last.pt the
            averaged weights are taken where there are any.
        device: where to put it.

    Raises:
        CheckpointError: no checkpoint, a damaged one, or one of another model.
        GCPError: no such run.
        UnknownNameError: another `which`.
    """
    path = _find(given, which)
    saved = checkpoint.load(path)
    config = saved.get("config")
    if not isinstance(config, dict) or "flow" not in config:
        if isinstance(config, dict) and "head" in config:
            raise CheckpointError(
                f"{path} is of a classifier, not of a flow. Type\n  gcp evaluate --checkpoint {shlex.quote(str(path))}"
            )
        raise CheckpointError(f"{path} does not tell its flow: it has no configuration")
    try:
        data, averaged = config["data"], config["train"]["ema"] is not None
        source = DATASETS[data["name"]].obj
        side = source.image_size if data["image_size"] == "auto" else data["image_size"]
        with preserved():
            model = create_flow((data["in_chans"], side, side), config["flow"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} does not tell its flow: {type(error).__name__}: {error}") from error
    load_weights(model, saved["model"] if saved.get("ema") is None else saved["ema"], str(path))
    model = model.to(device, torch.float32).eval()
    return TrainedFlow(model, Bits(model.dimensions, source.levels), path, averaged, config)


def _find(given: str | Path, which: str) -> Path:
    if which not in CHOICES:
        raise UnknownNameError("weights", which, CHOICES)
    place = Path(given).expanduser()
    if place.is_file() or place.name.endswith(FILES):
        return place
    folder = find_run_folder(place)
    for path in (folder.best, folder.last) if which == "best" else (folder.last,):
        if path.is_file():
            return path
    raise CheckpointError(f"{folder.path} has no checkpoint yet")
