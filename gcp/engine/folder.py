"""A run folder: its files, how one is made, and that only one process writes it."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from gcp.errors import GCPError, nearest


def write_text(path: str | Path, text: str) -> None:
    """Replace the file in one step: a reader, or a run after a kill, sees the old text or the new.

    Raises:
        GCPError: the folder of the file is gone.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    if not path.parent.is_dir():
        raise GCPError(f"the folder {path.parent} is gone: it was moved or deleted, and {path.name} cannot be written.")
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: str | Path, value: object) -> None:
    """Replace the file by `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


class RunFolder:
    """Paths of a run. `path` itself is the folder."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.csv"
        self.last = self.path / "last.pt"
        self.best = self.path / "best.pt"
        self.curves = self.path / "curves.png"
        self.environment = self.path / "environment.json"
        self.result = self.path / "result.json"
        self.made_parents: list[Path] = []  # the folders above it that were made for it, the innermost first
        self._lock: int | None = None

    def stage(self, number: int) -> "RunFolder":
        """Folder of a stage of this run, numbers from 1."""
        return RunFolder(self.path / f"stage-{number}")

    def stages(self) -> "list[RunFolder]":
        """The stages that have a folder, in their order."""
        found = (file.name.removeprefix("stage-") for file in self.path.glob("stage-*/"))
        return [self.stage(number) for number in sorted(int(name) for name in found if name.isdecimal())]

    def whole(self) -> "RunFolder":
        """The run that this one is a stage of, else itself."""
        path = self.path if self.path.name else Path(os.path.abspath(self.path))  # the working folder is "."
        run = RunFolder(path.parent)
        is_stage = run.config.is_file() and path.name in (folder.path.name for folder in run.stages())
        return run if is_stage else self

    def lock(self) -> None:
        """Keep other processes from writing this run; ends with the process, however it ends.

        Raises:
            GCPError: another process holds it.
        """
        try:
            import fcntl
        except ImportError:  # no such locks on this system
            return
        handle = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise GCPError(f"run {self.path} is being trained by another process; wait for it or end it") from None
        except OSError:  # a file system without locks
            os.close(handle)
            return
        self._lock = handle
        os.register_at_fork(after_in_child=self.unlock)  # else a data worker holds the lock of a killed run

    def unlock(self) -> None:
        """Let others write again."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def discard(self) -> None:
        """Remove a run that never began: its configuration, and the folders that were made for it and hold nothing."""
        self.unlock()
        for path in (self.config, self.path / ".lock"):
            path.unlink(missing_ok=True)
        for folder in (self.path, *self.made_parents):
            if any(folder.iterdir()):
                break
            folder.rmdir()


def create_run_folder(parent: str | Path, name: str | None, stem: str, command: str = "train") -> RunFolder:
    """Make the folder of a new run: `name`, or the first free `stem-N`. `command`: that continues one.

    Raises:
        GCPError: the folder exists and is not empty, or cannot be made.
    """
    parent = Path(parent)
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = _first_free(parent, stem) if name is None else _named(parent / name, command)
    except OSError as error:
        why = f"{parent} is a file" if parent.is_file() else error
        raise GCPError(f"cannot make a run folder in {parent}: {why}. Set run.dir=FOLDER.") from error
    folder.made_parents = made
    return folder


def _first_free(parent: Path, stem: str) -> RunFolder:
    number = 1
    while True:
        try:
            (parent / f"{stem}-{number}").mkdir()
            return RunFolder(parent / f"{stem}-{number}")
        except FileExistsError:
            number += 1


def _named(path: Path, command: str) -> RunFolder:
    path.mkdir(exist_ok=True)
    if {file.name for file in path.iterdir()} - {".config.yaml.tmp"}:  # of a start that was killed at once
        choice = "Choose another run.name."
        if (path / "config.yaml").is_file():
            choice = f"Continue it by gcp {command} resume={shlex.quote(str(path))}, or choose another run.name."
        raise GCPError(f"run folder {path} exists and is not empty. {choice}")
    return RunFolder(path)


def find_run_folder(
    run: str | Path, parent: str | Path = "runs", holding: Sequence[str] = ("config.yaml",)
) -> RunFolder:
    """The folder of an existing run: a path, a file in it, or a name under `parent`.

    holding: the files of which one makes a folder count.

    Raises:
        GCPError: there is none; names the nearest run.
    """
    for place in (Path(run), Path(parent) / run):
        path = place.parent if place.is_file() else place
        if any((path / name).is_file() for name in holding):
            return RunFolder(path)
    folders = {Path(parent), Path(run).parent}
    found = (file for folder in folders if folder.is_dir() for name in holding for file in folder.glob(f"*/{name}"))
    runs = {str(file.parent) for file in found}
    by_name = {Path(path).name: path for path in sorted(runs)}
    near = nearest(Path(run).name, by_name)
    places = dict.fromkeys((Path(run), Path(parent) / run))  # one and the same for an absolute path
    looked = " and ".join(str(place) for place in places)
    where = f"{run} is there, but has no {' or '.join(holding)}" if Path(run).exists() else f"looked for {looked}"
    hint = f" Did you mean {by_name[near]}?" if near else " gcp train (train-glow) --config RECIPE starts a new run."
    raise GCPError(f"no run to be found: {where}.{hint}")
