"""Reading a file of tensors: whole or not at all, and without executing anything in it.

A torch file is a zip archive whose records carry CRC-32 sums; they are checked before anything is unpickled, and
only tensors and plain Python are admitted (`weights_only=True`). Files of torch before 1.6 (a bare pickle, without
sums) and safetensors are read too.
"""

import json
import pickle
import warnings
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from gcp.models.checkpoints.imports import imports
from gcp.models.checkpoints.signature import foreign, is_legacy, is_safetensors

DIRECTORY = 0x10  # attribute of a record for which torch would return memory that nothing was read into
NUMPY = "numpy."


class Unreadable(Exception):
    """Why a file cannot be read, as the rest of a sentence about it."""


def is_archive(path: Path) -> bool:
    """Whether there is the directory of a zip archive at the end of the file."""
    try:
        return zipfile.is_zipfile(path)
    except (zipfile.BadZipFile, OSError):
        return False


def damage(path: Path) -> str | None:
    """What is wrong with the archive at `path`, None where it is whole.

    Every record has to be as torch writes them (files, not compressed) and to pass its CRC-32.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            odd = (r.filename for r in records if r.compress_type or r.external_attr & DIRECTORY)
            damaged = next(odd, None) or archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        return str(error)
    return f"record {damaged} fails its check" if damaged else None


def unpickle(path: Path, numpy_scalars: bool = False) -> Any:
    """Contents of a torch file, on the CPU.

    `numpy_scalars` admits NumPy's numbers and arrays of numbers as well, which training scripts of old put beside
    the weights.

    Raises:
        Unreadable: another archive, or a file that asks for more than tensors and plain Python.
    """
    other = _another_archive(path)
    if other:
        raise Unreadable(other)
    try:
        with numpy_numbers() if numpy_scalars else nullcontext(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in the archive, in pickle or in torch
        raise Unreadable(_cause(path, error)) from error


def contents(path: Path, numpy_scalars: bool = False) -> Any:
    """Contents of a torch or safetensors file; of the latter {"state_dict": tensors, "metadata": texts}.

    Raises:
        Unreadable: damaged, of another kind, or with more in it than tensors and plain Python.
    """
    reason = foreign(path)
    if reason:
        raise Unreadable(reason)
    if is_safetensors(path):
        return _safetensors(path)
    with open(path, "rb") as file:
        is_pickle = file.read(1) == b"\x80"
    # A bare pickle has no sums; what torch cannot make sense of, it says.
    if not is_pickle and not is_archive(path):
        raise Unreadable("it is damaged, truncated, or no file of weights")
    if not is_pickle and not _another_archive(path) and (fault := damage(path)):
        raise Unreadable(f"it is damaged: {fault}")
    return unpickle(path, numpy_scalars)


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError) as error:
        raise Unreadable(f"it is damaged, truncated, or no safetensors file: {error}") from error
    return {"state_dict": tensors, "metadata": metadata}


def save_safetensors(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    """Write tensors with plain values beside them, each as JSON in the metadata."""
    from safetensors.torch import save_file

    whole = {key: value.contiguous().clone() for key, value in tensors.items()}
    save_file(whole, path, {"format": "pt", **{key: json.dumps(value, default=str) for key, value in about.items()}})


def _another_archive(path: Path) -> str | None:
    """What a zip archive is that torch did not write for weights; None for torch's, and for what is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    inside = [name.rpartition("/")[2] for name in names]
    if "constants.pkl" in inside:
        return "it is a TorchScript program, not weights: it would run code; save model.state_dict() instead"
    if "data.pkl" in inside:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "it is a NumPy archive (.npz), not weights of torch"
    shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    return f"it is a zip archive of something else ({shown or 'nothing'}): unpack it and give the file of weights"


def _cause(path: Path, error: Exception) -> str:
    """What torch's refusal comes from: names that the file would import, else its own first line."""
    names = _imports(path)
    if names:
        wanted = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        reason = f"Weights only load failed: it holds more than plain tensors and wants to import {wanted}"
        if all(name.startswith((NUMPY, "_codecs.")) for name in names):
            return (
                f"{reason}, NumPy's numbers beside the weights; convert it once by "
                f"gcp convert {path} OUT --numpy-scalars"
            )
        return f"{reason}, which could execute anything; nothing of it was run"
    if isinstance(error, pickle.UnpicklingError) and "Weights only load failed" in str(error):
        return "it is damaged, truncated, or holds more than plain tensors (Weights only load failed)"
    first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return f"it is damaged, truncated, or holds more than plain tensors ({type(error).__name__}: {first})"


def _imports(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            (record, *_) = (name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
            with archive.open(record) as file:
                return imports(file)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, RuntimeError, NotImplementedError):
        with open(path, "rb") as file:
            return imports(file, pickles=4 if is_legacy(path) else 1)  # number, version, machine, contents


def numpy_numbers() -> AbstractContextManager:
    """Admit what rebuilds NumPy's numbers and arrays of them, under the names of NumPy 1 and 2, and nothing else.

    Types that hold Python objects or records stay out.
    """
    import numpy as np
    from numpy import dtypes

    multiarray: Any = getattr(np, "_core", None) or np.core  # NumPy 1 has it under the old name only
    multiarray = multiarray.multiarray
    admitted: list[Any] = [np.dtype, np.ndarray]
    for package in ("numpy.core", "numpy._core"):
        admitted += [(multiarray.scalar, f"{package}.multiarray.scalar")]
        admitted += [(multiarray._reconstruct, f"{package}.multiarray._reconstruct")]
    kinds = (getattr(dtypes, name) for name in dir(dtypes) if name.endswith("DType"))
    admitted += [kind for kind in dict.fromkeys(kinds) if kind.__name__ not in ("ObjectDType", "VoidDType")]
    return torch.serialization.safe_globals(admitted)
