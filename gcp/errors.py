"""Faults that a user can mend. Each owns its wording: what was given, what is allowed, what to type.

The commands print such an error without a traceback and exit with code 2; any other exception is a defect of this
library and keeps its traceback. Messages name a command as `gcp COMMAND`; `user_message` puts what the user typed in
its place.
"""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches

from gcp.command import as_typed

# What `gcp list` lists.
LISTED = {"backbone": "backbones", "head": "heads", "rule": "rules", "data set": "datasets", "transform": "transforms"}


def nearest(got: str, allowed: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The allowed name most like `got`, or None where nothing is close. `cutoff`: the least likeness, 1 for equal."""
    names = {str(name).lower(): str(name) for name in allowed}
    match = get_close_matches(str(got).lower(), names, n=1, cutoff=cutoff)
    return names[match[0]] if match else None


def suggest(got: str, allowed: Iterable[str], cutoff: float = 0.5) -> str:
    """` Did you mean 'X'?` for the nearest name, ` Give them apart: X Y.` for names with commas, or an empty string."""
    allowed = {str(name) for name in allowed}
    parts = [part.strip() for part in str(got).split(",")]
    if len(parts) > 1 and allowed & set(parts):
        return f" Give them apart: {' '.join(parts)}."
    name = nearest(got, sorted(allowed), cutoff)
    return f" Did you mean {name!r}?" if name else ""


def counted(number: int, noun: str) -> str:
    """`1 image`, `1,280 images`, `2 classes`."""
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural}"


class GCPError(Exception):
    """A fault of the input; its message says how to mend it."""


class UnknownNameError(GCPError, ValueError):
    """A name that its registry does not hold. `meant`: the name to suggest, by default the nearest one allowed."""

    def __init__(self, kind: str, got: str, allowed: Iterable[str], meant: str | None = None):
        names = sorted(str(name) for name in allowed)
        listed = ", ".join(names) if len(names) <= 40 else f"{len(names)} names"
        if kind in LISTED and len(names) > 40:
            listed += f", see gcp list {LISTED[kind]}"
        hint = f" Did you mean {meant!r}?" if meant else suggest(got, names)
        super().__init__(f"unknown {kind} {got!r}.{hint} Known: {listed}.")


class OptionError(GCPError, ValueError):
    """An option that its owner does not take, or a value outside what is allowed."""


class ShapeError(GCPError, ValueError):
    """A tensor of the wrong shape or type for the operation."""


class NonFiniteError(GCPError, ArithmeticError):
    """An inf or NaN in the features, the loss or the gradient."""


class ConfigError(GCPError, ValueError):
    """Every fault of a configuration in one message."""

    def __init__(self, faults: Iterable[str], source: str = "the configuration"):
        self.faults = list(faults)
        head = f"{counted(len(self.faults), 'fault')} in {source}:"
        super().__init__("\n".join([head, *(f"  {fault}" for fault in self.faults)]))


class DataError(GCPError, ValueError):
    """A data set that is missing, incomplete or unreadable."""


class CheckpointError(GCPError, ValueError):
    """A checkpoint that is missing, damaged, or of another model."""


class DeviceError(GCPError, RuntimeError):
    """What a GPU was asked for and cannot do."""


# the machine, not this program, refuses: no space, quota, read-only, no permission
REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
# a path that cannot be one: too long a name, a folder for a file, a file for a folder, links in a circle
NO_PATH = {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP}
LONG = 60  # characters of a path that a message shows of its beginning and of its end


def user_message(error: BaseException) -> str | None:
    """The message for a user whose input caused this error; None for a defect of this program."""
    if isinstance(error, GCPError) or (isinstance(error, OSError) and error.errno in REFUSALS):
        return as_typed(str(error))
    if isinstance(error, OSError) and error.errno in NO_PATH:
        path = str(error.filename2 or error.filename or "")
        shown = path if len(path) <= 2 * LONG else f"{path[:LONG]}...{path[-LONG:]}"
        return f"{error.strerror}: {shown!r}. Give another path, or move what is there out of the way."
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        asked = re.search(r"allocate (\d+) bytes", str(error))
        size = f": {int(asked[1]) / 2**30:,.1f} GiB were asked for" if asked else ""
        keys = "train.batch_size, evaluate.batch_size, data.workers, data.image_size, head.dim or model.hidden"
        return f"the memory of this machine is full{size}. Lower {keys}."
    if type(error).__name__ == "OutOfMemoryError":  # torch's; not imported here to keep --help quick
        reason = str(error).split(". ")[0]
        return f"{reason}. Lower train.batch_size (and raise train.accumulate) or data.image_size."
    return None
