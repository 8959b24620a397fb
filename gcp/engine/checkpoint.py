"""Checkpoints that a kill, a full disk or a flipped bit cannot turn into a silent loss.

Writing: into a temporary file of the same folder, synced to the disk, then renamed over the old one; at every
moment there is a whole `last.pt`. The ones before stay as `last-1.pt`, `last-2.pt`, ... (hard links, no copy).
Reading: the archive is checked before anything is unpickled, and only tensors and plain Python are admitted (see
`gcp.models.archive`).
"""

import errno
import logging
import os
import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from gcp.errors import CheckpointError, nearest
from gcp.models.archive import Unreadable, damage, foreign, is_archive, unpickle

log = logging.getLogger("gcp")

FORMAT = 1  # of the dictionary in the file; a reader refuses what is newer than itself
OLDEST = 100  # more files than this are never kept


def older(path: Path, age: int) -> Path:
    """Name of the checkpoint `age` writes before `path`: last.pt, last-1.pt, last-2.pt, ..."""
    return path.with_name(f"{path.stem}-{age}{path.suffix}") if age else path


def save(path: str | Path, state: dict, keep: int = 1) -> None:
    """Write `state` (tensors and plain Python) atomically, keeping the `keep` newest files in all.

    Raises:
        CheckpointError: the file cannot be written; the previous one is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        _rotate(path, keep)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(_write_failure(path, error)) from error


def _rotate(path: Path, keep: int) -> None:
    """Shift the older files by one and give the newest a second name, so that it never goes missing."""
    if not path.exists():
        return
    for age in range(keep - 1, 1, -1):
        if older(path, age - 1).exists():
            os.replace(older(path, age - 1), older(path, age))
    if keep > 1:
        link = path.with_name(f".{path.name}.link")
        link.unlink(missing_ok=True)
        try:
            os.link(path, link)
        except OSError:  # a file system without hard links
            shutil.copy2(path, link)
        os.replace(link, older(path, 1))
    for age in range(max(keep, 1), OLDEST):  # also beyond a gap that a kill between two renames left
        older(path, age).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself durable, where the system lets a folder be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def _write_failure(path: Path, error: Exception) -> str:
    free = ""
    if path.parent.is_dir():
        free = f" ({shutil.disk_usage(path.parent).free / 2**20:.0f} MiB free in {path.parent})"
    kept = f" The previous {path.name} is whole." if path.exists() else ""
    return f"cannot write checkpoint {path}: {_cause(error)}{free}.{kept}"


def _cause(error: BaseException) -> BaseException:
    """The refusal of the system behind the error: torch follows it up with an error of its own."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, OSError):
        link = link.__context__
    return link or error


def load(path: str | Path) -> dict:
    """Read a checkpoint onto the CPU, after checking that it is whole.

    Raises:
        CheckpointError: no such file, damaged, foreign, or written by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        found = sorted(file.name for file in path.parent.glob("*.pt")) if path.parent.is_dir() else []
        here = f" {path.parent} has {', '.join(found)}." if found else ""
        near = nearest(path.name, found)
        raise CheckpointError(f"no checkpoint {path}.{here}" + (f" Did you mean {near!r}?" if near else ""))
    fault = damage(path)
    if fault:
        # An archive that is cut has lost the directory at its end.
        what = "damaged" if is_archive(path) else "damaged or truncated"
        raise CheckpointError(f"checkpoint {path} is {what}: {foreign(path) or fault}.{_other(path)}")
    try:
        state = unpickle(path)
    except Unreadable as reason:
        raise CheckpointError(f"checkpoint {path} cannot be read: {reason}.{_other(path)}") from reason
    if not isinstance(state, dict) or "model" not in state or not isinstance(state.get("format"), int):
        keys = ", ".join(map(str, list(state)[:5])) if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(
            f"{path} is not a checkpoint of this library (it holds: {keys}). Weights of others can be given "
            "as model.pretrained."
        )
    if state["format"] > FORMAT:
        raise CheckpointError(f"{path} was written by a newer version (format {state['format']}, known {FORMAT})")
    return state


def _other(path: Path) -> str:
    """` An older one is ...` for the newest older file whose archive opens, or an empty string."""
    for candidate in candidates(path.parent, path.name.split("-")[0].removesuffix(path.suffix) + path.suffix):
        if candidate != path and is_archive(candidate):
            return f" The previous checkpoint is {candidate}."
    return ""


def candidates(folder: Path, name: str = "last.pt") -> list[Path]:
    """Checkpoints of a run folder that exist, newest first."""
    return [path for path in (older(folder / name, age) for age in range(OLDEST)) if path.is_file()]


def load_latest(folder: str | Path) -> tuple[Path, dict] | None:
    """Newest whole checkpoint of a run folder, or None where there is none at all.

    A damaged file is passed over with a warning on the log that names it and the one taken instead.

    Raises:
        CheckpointError: there are checkpoints, and all of them are damaged.
    """
    faults = []
    for path in candidates(Path(folder)):
        try:
            state = load(path)
        except CheckpointError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            log.warning("%s Continuing from %s instead.", fault, path)
        return path, state
    if faults:
        raise CheckpointError("no whole checkpoint is left:\n  " + "\n  ".join(faults))
    return None


MOST = 2  # states in host memory that wait for the disk: a best.pt and a last.pt of one moment


class Writer:
    """Writes behind the training, which waits for the copy into host memory and not for the disk; in the order of
    `submit`, one file at a time.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: deque[Future[None]] = deque()

    def submit(self, path: Path, state: dict, keep: int = 1) -> None:
        """Write `state` as `save` does, later; it may change as soon as this returns.

        Raises:
            CheckpointError: an earlier file could not be written.
        """
        self.check()
        while len(self._pending) >= MOST:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(save, path, copied(state), keep))

    def check(self) -> None:
        """Raise the CheckpointError of a file that could not be written; does not wait."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()

    def wait(self) -> None:
        """Return when everything is on the disk. Raises CheckpointError as `submit`."""
        while self._pending:
            self._pending.popleft().result()


def copied(value: Any) -> Any:
    """The same tree of dicts, lists and tuples, with every tensor copied to the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(copied, value))
    return value
