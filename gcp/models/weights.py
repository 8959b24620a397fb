"""Weights from a file into a model whose shape may differ in the number of classes or the reduction.

Accepted: a run's `best.pt` or `last.pt` (a dict whose `model` is a state dict), a dict with `state_dict`, a
plain state dict, a `.safetensors` file. The prefixes `module.` and `_orig_mod.` of wrapped models come off.
Files are read as plain tensors; nothing in them is executed.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import CheckpointError

State = dict[str, Tensor]
logger = logging.getLogger("gcp")

# Keys of old files lack it, and it is a counter that nothing here reads.
COUNTER = "num_batches_tracked"


def read_state(path: str | Path) -> State:
    """The state dict of a file, on the CPU. Raises CheckpointError where there is none."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: the file does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in the archive, in pickle or in torch
        raise CheckpointError(
            f"{path} cannot be read: it is damaged, truncated, or holds more than plain tensors "
            f"({type(error).__name__})"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())
    if not tensors or not content:
        raise CheckpointError(f"{path} holds no state dict: tensors by name, plain or under 'model' or 'state_dict'")
    return {_unwrapped(str(key)): value for key, value in content.items()}


def _unwrapped(key: str) -> str:
    while key.startswith(("module.", "_orig_mod.")):
        key = key.partition(".")[2]
    return key.replace("._orig_mod.", ".")


def _under(prefix: str, replaces: str = "") -> Callable[[State], State]:
    """Rename `replaces`rest to `prefix`rest; keys that do not begin so stay out."""
    return lambda state: {
        prefix + key.removeprefix(replaces): value for key, value in state.items() if key.startswith(replaces)
    }


def _fitting(state: State, target: State) -> int:
    return sum(key in target and target[key].shape == value.shape for key, value in state.items())


def _best(state: State, target: State, layouts: list[Callable[[State], State]], path: str | Path) -> State:
    renamed = max((layout(state) for layout in layouts), key=lambda candidate: _fitting(candidate, target))
    if not _fitting(renamed, target):
        raise CheckpointError(
            f"nothing in {path} fits the model. In the file: {_some(state)}. In the model: {_some(target)}"
        )
    return renamed


def _some(keys: Iterable[str], most: int = 5) -> str:
    names = list(keys)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _faults(state: State, target: State) -> dict[str, str]:
    """Key of the target -> what is wrong with it in the file."""
    faults = {}
    for key, value in target.items():
        if key not in state and not key.endswith(COUNTER):
            faults[key] = "not in the file"
        elif key in state and state[key].shape != value.shape:
            faults[key] = f"{tuple(state[key].shape)} in the file, {tuple(value.shape)} in the model"
    return faults


def _require_backbone(faults: dict[str, str], state: State, target: State, path: str | Path) -> None:
    """Refuse a file of another backbone; only a first convolution of other input channels may differ."""
    if len(faults) == 1:
        (key,) = faults
        old, new = state.get(key), target[key]
        if old is not None and old.ndim == new.ndim == 4 and old.shape[::2] == new.shape[::2]:
            return
    if faults:
        listed = [f"{key} ({fault})" for key, fault in faults.items()]
        raise CheckpointError(
            f"{path} is of another backbone: {len(faults)} of {len(target)} tensors do not fit: {_some(listed)}"
        )


def _load(model: nn.Module, state: State, required: str, original: State, path: str | Path) -> None:
    target = model.state_dict()
    faults = _faults(state, target)
    backbone = {key: fault for key, fault in faults.items() if key.startswith(required)}
    _require_backbone(backbone, state, {k: v for k, v in target.items() if k.startswith(required)}, path)
    # A layer is loaded whole or not at all: a bias without its weight would mean nothing.
    layers = {key.rpartition(".")[0] for key in faults}
    left_out = [key for key in target if key.rpartition(".")[0] in layers]
    kept = {key: value for key, value in state.items() if key in target and key not in left_out}
    model.load_state_dict(kept, strict=False)
    fresh = [f"{key} ({faults.get(key, 'with its layer')})" for key in left_out]
    taken = {id(value) for key, value in state.items() if key in target}
    unused = [key for key, value in original.items() if id(value) not in taken]
    parts = []
    if fresh:
        parts.append(f"left out, so newly initialised: {_some(fresh, 20)}")
    if unused:
        parts.append(f"only in the file: {_some(unused, 20)}")
    if parts:
        logger.warning("%s: loaded %d of %d tensors; %s", path, len(kept), len(target), "; ".join(parts))


def load_backbone(backbone: nn.Module, path: str | Path) -> None:
    """Load a file into a Backbone: of ours, of timm or of torchvision. Raises CheckpointError."""
    state = read_state(path)
    layouts = [_under("", "features."), _under(""), _under("body."), _under("body.", "features.")]
    _load(backbone, _best(state, backbone.state_dict(), layouts, path), "", state, path)


def load_classifier(model: nn.Module, path: str | Path) -> None:
    """Load a file into a Classifier: all parts of one of ours, the backbone of any other.

    Where the number of classes or the width of the reduction differs, the layers that do not fit keep their
    initialisation and a warning names them. Raises CheckpointError where the backbone does not fit.
    """
    state = read_state(path)
    layouts = [
        _under(""),
        _under("features."),
        _under("features.body."),
        _under("features.body.", "features."),
    ]
    _load(model, _best(state, model.state_dict(), layouts, path), "features.", state, path)
