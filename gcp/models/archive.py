"""Reading a file of tensors: whole or not at all, and without executing anything in it.

A torch file is a zip archive whose records carry CRC-32 sums; they are checked before anything is unpickled, and
only tensors and plain Python are admitted (`weights_only=True`). Files of torch before 1.6 (a bare pickle, without
sums) and safetensors are read too. The first bytes of a file that is refused show what it is instead, and the
instructions of its pickle what it would import; none of them is executed.
"""

import json
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

import torch

HEAD = 512
LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch's files before 1.6 begin with, as a pickle

# First bytes -> what the file is, and what to do about it.
BEGINNINGS = {
    b"version https://git-lfs": "it is a Git LFS pointer, not the weights: run 'git lfs pull' where it was cloned",
    b"\x1f\x8b": "it is a gzip archive: unpack it and give the file of weights inside",
    b"BZh": "it is a bzip2 archive: unpack it and give the file of weights inside",
    b"\xfd7zXZ": "it is an xz archive: unpack it and give the file of weights inside",
    b"7z\xbc\xaf": "it is a 7z archive: unpack it and give the file of weights inside",
    b"Rar!": "it is a RAR archive: unpack it and give the file of weights inside",
    b"\x28\xb5\x2f\xfd": "it is a Zstandard archive: unpack it and give the file of weights inside",
    b"\x89HDF": "it is an HDF5 file (Keras, MATLAB), not weights of torch",
    b"\x93NUMPY": "it is a NumPy array, not weights of torch",
    b"MATLAB 5.0": "it is a MATLAB file (MatConvNet, for instance), not weights of torch",
    b"GGUF": "it is a GGUF file, not weights of torch",
    b"\x7fELF": "it is a program",
    b"%PDF": "it is a PDF",
    b"\x89PNG": "it is an image",
    b"\xff\xd8\xff": "it is an image",
}
WEB = (b"<!doctype", b"<html", b"<head", b"<?xml")


def foreign(path: Path) -> str | None:
    """Why the file at `path` cannot hold weights, None where it may."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head:
        return "it is damaged, truncated to nothing: the file is empty"
    if not any(head):
        return "it is damaged: it begins with zeros only, as a file does whose download was never finished"
    for beginning, meaning in BEGINNINGS.items():
        if head.startswith(beginning):
            return meaning
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(WEB):
        return "it is a web page, not weights: the download gave an error or a login page; fetch the file again"
    if head[257:262] == b"ustar":
        return "it is a tar archive: unpack it and give the file of weights inside"
    if _is_text(head):
        return f"it is a text file, which begins with {text[:40].decode(errors='replace')!r}"
    return None


def is_legacy(path: Path) -> bool:
    """Whether torch before 1.6 wrote the file: several pickles in a row."""
    with open(path, "rb") as file:
        return LEGACY in file.read(32)  # behind the version of the pickle


def is_safetensors(path: Path) -> bool:
    """Whether the file is in the safetensors format: the length of a header, then its JSON."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def _is_text(head: bytes) -> bool:
    """Pickles of protocol 0 are text as well; they begin with an opcode and end lines with names."""
    printable = all(32 <= byte < 127 or byte in b"\t\n\r" for byte in head)
    return printable and head[:1] not in (b"(", b"c", b"]", b"}")


# What torch itself writes around tensors and plain Python, and what rebuilds them.
PLAIN = ("torch._utils.", "torch.storage.", "torch.nn.parameter.", "torch._tensor.", "collections.OrderedDict")
TYPES = ("torch.Size", "torch.device", "torch.dtype", "torch.serialization._get_layout", "_codecs.encode")


def imports(file: IO[bytes], pickles: int = 1) -> list[str]:
    """Dotted names, in their order, that the next `pickles` pickles of the file ask for, torch's own left out."""
    names: dict[str, None] = {}
    try:
        for _ in range(pickles):
            for name in _globals(file):
                names[name] = None
    except (ValueError, EOFError, IndexError, KeyError, MemoryError, OverflowError):  # no further whole pickle
        pass
    return [name for name in names if not _plain(name)]


def _plain(name: str) -> bool:
    storage = name.startswith("torch.") and name.count(".") == 1 and name.endswith("Storage")
    return storage or name.startswith(PLAIN) or name in TYPES


def _globals(file: IO[bytes]) -> Iterator[str]:
    strings: list[str] = []  # pushed so far; the newest two name what STACK_GLOBAL asks for
    memo: dict[int, str] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = strings[-1] if strings else ""
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = strings[-1] if strings else ""
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            strings.append(memo.get(int(argument), ""))
        elif isinstance(argument, str):
            strings.append(argument)


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
