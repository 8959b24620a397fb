"""Values of flags, for the benchmarks: whole numbers, names, a device, a file to write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gcp.errors import OptionError, UnknownNameError

Flags = dict[str, list[str]]


def find_device(name: str) -> Any:
    """The torch device of that name.

    Raises:
        OptionError: no such device, or a GPU that is not there.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise OptionError(f"--device is {name!r}; allowed: cpu, cuda, cuda:0, cuda:1 and so on.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise OptionError(f"--device is {name}, but {found or 'no'} GPU is available. Type --device cpu.")
    return device


def numbers(flags: Flags, flag: str, default: list[int], least: int) -> list[int]:
    """Whole numbers after a flag. Raises OptionError for another word or a number below `least`."""
    words = flags.get(flag)
    if words is None:
        return default
    for word in words:
        if not (word.isascii() and word.isdigit() and int(word) >= least):
            raise OptionError(f"{flag} is {word!r}; allowed: a whole number >= {least}.")
    return [int(word) for word in words]


def choice(flags: Flags, flag: str, allowed: Sequence[str]) -> str:
    """The word after a flag; its default is the first allowed one. Raises UnknownNameError for another."""
    value = flags.get(flag, [allowed[0]])[0]
    if value not in allowed:
        raise UnknownNameError(flag.lstrip("-"), value, allowed)
    return value


def target(path: str | None, flag: str = "--json") -> str | None:
    """The file of a flag. Refuses one that cannot be written before minutes are spent on what should go into it."""
    if path is not None and (Path(path).is_dir() or not Path(path).resolve().parent.is_dir()):
        raise OptionError(f"{flag} {path}: not a file in a folder that exists.")
    return path
