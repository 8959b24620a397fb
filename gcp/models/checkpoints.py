"""The state dict of a file, wherever the file keeps it, and what stands beside it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gcp.errors import CheckpointError, nearest
from gcp.models.archive import Unreadable, contents
from gcp.models.downloads import from_hub

State = dict[str, Tensor]

# Last words of the names of tensors that have to be real numbers; counters, masks and tables of places need not be.
NUMBERS = ("weight", "bias", "running_mean", "running_var", "original", "original0", "original1")
# Keys under which files keep their weights. Averaged ones come first: they are what their authors evaluate.
AVERAGED = ("ema", "state_dict_ema", "model_ema")
CONTAINERS = (*AVERAGED, "model", "state_dict")
SHARDED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
IN_A_FOLDER = ("best.pt", "last.pt", "model.safetensors", "pytorch_model.bin", *SHARDED)
INDEX = ".index.json"
FILES = (".pt", ".pth", ".tar", ".bin", ".ckpt", ".pkl", ".safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """Weights by name, prefixes of wrapped models off.

    `path` names where they come from; `container` the key of the file that holds them, "" for a plain state dict;
    `about` everything else in the file (epoch, arch, config, ...), optimizers included; `wrapped` the keys that had
    a prefix or another name, as they are in the file; `names` what the names of the file were (`gcp.models.names`).
    """

    path: Path
    state: State
    container: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    wrapped: dict[str, str] = field(default_factory=dict)
    names: str = ""

    @property
    def averaged(self) -> bool:
        """Whether these are averaged weights beside which the file has others."""
        return self.container in AVERAGED


def read_checkpoint(path: str | Path, numpy_scalars: bool = False) -> Checkpoint:
    """The weights of a file, or of a run folder (best.pt, else last.pt), on the CPU.

    Args:
        path: a file of torch or safetensors, or a folder that holds one.
        numpy_scalars: admit NumPy's numbers beside the weights (see `archive.unpickle`).

    Raises:
        CheckpointError: no file, none that can be read without executing it, or none of weights.
    """
    path = _locate(Path(path).expanduser())
    try:
        content = _sharded(path, numpy_scalars) if path.name.endswith(INDEX) else contents(path, numpy_scalars)
    except Unreadable as reason:
        raise CheckpointError(f"{path} cannot be read: {reason}") from reason
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    about: dict[str, Any] = {}
    container = ""
    if isinstance(content, dict):
        container = next((key for key in CONTAINERS if isinstance(content.get(key), dict)), "")
    if container:
        about = {str(key): value for key, value in content.items() if key not in CONTAINERS}
        content = content[container]
    tensors = isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())
    if not tensors or not content:
        raise CheckpointError(f"{path} holds no state dict: tensors by name, plain or under 'model' or 'state_dict'")
    check_weights(content, path)
    about |= _decoded(about.pop("metadata", None))
    keys = {str(key): unwrapped(str(key)) for key in content}
    state: State = {}
    for plain, value in zip(keys.values(), content.values(), strict=True):
        if plain in state:
            raise CheckpointError(f"{path} holds {plain!r} twice, with and without the prefix of a wrapped model")
        state[plain] = value
    from gcp.models.names import plain_names  # a run that begins with no file does without

    whole = {plain: key for key, plain in keys.items() if key != plain}
    state, changed, names = plain_names(state)
    wrapped = {key: whole.get(changed.get(key, key), changed.get(key, key)) for key in state}
    wrapped = {key: before for key, before in wrapped.items() if key != before}
    return Checkpoint(path, state, container, about, wrapped, names)


def _sharded(index: Path, numpy_scalars: bool) -> dict[str, Any]:
    """Contents of the files that an index of transformers names, which lie beside it.

    Raises Unreadable.
    """
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({str(name) for name in places.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(f"it is no index of weights in several files ({type(error).__name__})") from error
    state: State = {}
    for name in files:
        shard = index.parent / name
        if Path(name).name != name or not shard.is_file():
            raise Unreadable(f"it names {name!r}, and no such file lies beside it")
        found = contents(shard, numpy_scalars)
        tensors = found.get("state_dict", found) if isinstance(found, dict) else {}
        state |= {key: value for key, value in tensors.items() if places.get(key) == name}
    if missing := [key for key in places if key not in state]:
        raise Unreadable(f"{len(missing)} of its {len(places)} tensors are in none of its files, {missing[0]} first")
    return {"state_dict": state}


def check_weights(state: Any, source: str | Path) -> None:
    """Raise CheckpointError unless these are dense tensors by name whose weights are finite real numbers."""
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{source} holds no weights: tensors by name are needed, it has {type(state).__name__}")
    for key, value in state.items():
        if fault := _fault_of(str(key), value):
            raise CheckpointError(f"{source} cannot be used: {key} {fault}. Train or convert it anew")


def _fault_of(key: str, value: Any) -> str | None:
    if not isinstance(value, Tensor):
        return f"is of type {type(value).__name__}, not a tensor"
    if value.layout is not torch.strided or value.device.type == "meta" or value.is_quantized:
        kind = "quantized" if value.is_quantized else "meta" if value.device.type == "meta" else value.layout
        return f"is a tensor without plain values ({kind})"
    if not value.is_floating_point():
        number = key.rpartition(".")[2] in NUMBERS or value.is_complex()
        return f"is {value.dtype}; allowed are float32, float64, float16 and bfloat16" if number else None
    wide = value if value.element_size() > 1 else value.float()  # of 8 bits torch knows no test
    if "mask" not in key and not bool(torch.isfinite(wide).all()):
        return "holds inf or NaN: the training that it is from had diverged"
    return None


def open_checkpoint(given: str | Path, numpy_scalars: bool = False) -> Checkpoint:
    """The weights of a file, a run folder, or a timm model by the name of its weights (a download).

    Raises:
        CheckpointError: neither of them, or a download that failed.
    """
    if isinstance(given, Path) or Path(given).expanduser().exists() or given.endswith(FILES):
        return read_checkpoint(given, numpy_scalars)
    if is_timm_weights(given):
        return Checkpoint(Path(given), _download(given), about={"arch": given.partition(".")[0]})
    import timm

    near = nearest(given, timm.list_pretrained())
    raise CheckpointError(
        f"no checkpoint at {given}: the file does not exist, and timm has no weights of that name."
        + (f" Did you mean {near!r}?" if near else "")
    )


def is_there(given: str | Path) -> bool:
    """Whether `open_checkpoint` finds something: a file, a folder that holds one, or a name of timm."""
    path = Path(given).expanduser()
    inside = any((path / name).is_file() for name in IN_A_FOLDER)
    return path.is_file() or inside or (isinstance(given, str) and not path.exists() and is_timm_weights(given))


def is_timm_weights(name: str) -> bool:
    """Whether timm has weights of that name: `resnet50.a1_in1k`, or `resnet50` for its own choice."""
    if name.endswith(FILES) or "/" in name:
        return False
    import timm

    return timm.is_model(name) and (name in timm.list_pretrained() or name in timm.list_models(pretrained=True))


def _download(name: str) -> State:
    import timm

    try:
        with from_hub():
            return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the libraries that download have errors that share no class
        raise CheckpointError(
            f"the weights {name!r} could not be loaded by timm ({type(error).__name__}: {error}). Without a network, "
            f"fetch the file elsewhere and give its path"
        ) from error


def _locate(path: Path) -> Path:
    if path.is_dir():
        inside = next((path / name for name in IN_A_FOLDER if (path / name).is_file()), None)
        if inside is None:
            raise CheckpointError(f"no checkpoint in the folder {path}: it holds none of {', '.join(IN_A_FOLDER)}")
        return inside
    if not path.is_file():
        there = path.parent.iterdir() if path.parent.is_dir() else ()
        near = nearest(path.name, (entry.name for entry in there if entry.suffix in FILES))
        hint = f". Did you mean {path.with_name(near)}?" if near else ""
        raise CheckpointError(f"no checkpoint at {path}: the file does not exist{hint}")
    return path


def unwrapped(key: str) -> str:
    """Without the prefixes of DataParallel, DistributedDataParallel and torch.compile."""
    while key.startswith(("module.", "_orig_mod.")):
        key = key.partition(".")[2]
    key = key.replace("._orig_mod.", ".")
    if key.startswith("features.module."):  # the published suites wrap the features alone
        key = "features." + key.removeprefix("features.module.")
    return key


def _decoded(metadata: Any) -> dict[str, Any]:
    """What `archive.save_safetensors` put beside the tensors; texts of others as they are."""
    found: dict[str, Any] = {}
    for key, text in (metadata or {}).items():
        try:
            found[key] = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            found[key] = text
    return found
