"""A study from its description to its tables, with a line of progress."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from gcp.command import typed
from gcp.config import load, yaml_file
from gcp.drawing.terminal import print_markdown
from gcp.engine.folder import RunFolder, write_text
from gcp.errors import GCPError
from gcp.studies import tune
from gcp.studies.cells import (
    DONE,
    FAILED,
    IMAGES,
    PENDING,
    Cell,
    Outcome,
    cells_of,
    check,
    check_beginnings,
    config_of,
    lay_out,
    pools_all_channels,
    read,
)
from gcp.studies.grid import HEAD, Study, Variant, read_study
from gcp.studies.pool import LOG, run_cells
from gcp.studies.tables import write_tables


class StudyProgress:
    """Counts, time left, and the best variant so far.

    Args:
        cells: of the whole study.
        jobs: cells at once.
        tabulate: writes the tables and returns the rows of the variants.
    """

    def __init__(self, cells: Sequence[Cell], jobs: int, tabulate: Callable[[], list[dict[str, Any]]]):
        self.jobs, self.tabulate = jobs, tabulate
        self.states = {cell.id: read(cell).state for cell in cells}
        self.running: dict[str, float] = {}
        self.taken: list[float] = []
        self.rows = tabulate()
        self.terminal = sys.stdout.isatty()
        self.folders = {cell.id: cell.folder.path for cell in cells}
        self.told: set[str] = set()  # what the runs have said of features that they compute for all

    def started(self, cell: Cell) -> None:
        """Of `PoolObserver`."""
        self.states[cell.id] = PENDING
        self.running[cell.id] = time.monotonic()

    def ended(self, cell: Cell) -> None:
        """Of `PoolObserver`."""
        self._tell_features(cell.folder.path / LOG)
        seconds = time.monotonic() - self.running.pop(cell.id)
        record = read(cell)
        self.states[cell.id] = record.state
        if record.state == DONE:
            self.taken.append(seconds)
        self.rows = self.tabulate()
        self.say(f"{_outcome(record):<70} {self.line()}")

    def beat(self) -> None:
        """Of `PoolObserver`."""
        for name in self.running:
            self._tell_features(self.folders[name] / LOG)
        if self.terminal:
            print(f"\r\033[K{self.line()}", end="", flush=True)

    def _tell_features(self, path: Path) -> None:
        """Size and time of the features that a run computes for all, once for those that are computed together."""
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = [line.strip() for line in islice(file, 50) if line.startswith("features ")]
        except OSError:
            return
        for line in lines:
            counted = line.partition(" maps")[0]
            if " are to be computed" in line and counted not in self.told:
                self.told.add(counted)
                self.say(line)

    def say(self, text: str) -> None:
        """A line that stays."""
        print(f"\r\033[K{text}" if self.terminal else text, flush=True)

    def line(self) -> str:
        """`12 of 55 done, 1 failed, 2 running, 34 min left, best on validation svd_pade 99.44`."""
        states = list(self.states.values())
        parts = [f"{states.count(DONE)} of {len(states)} done"]
        parts += [f"{states.count(FAILED)} failed"] if FAILED in states else []
        parts += [f"{len(self.running)} running"] if self.running else []
        parts += [f"{_duration(self._left(states.count(PENDING)))} left"] if self.taken and PENDING in states else []
        found = [row for row in self.rows if row["val_mean"] is not None]
        if found:  # whoever looks at test scores on the way chooses by them
            best = max(found, key=lambda row: row["val_mean"])
            parts.append(f"best on validation {best['variant']} {best['val_mean']:.2f}")
        return ", ".join(parts)

    def _left(self, pending: int) -> float:
        """Seconds: what the cells to come take, less what the running ones have done."""
        now = time.monotonic()
        each = sum(self.taken) / len(self.taken)
        done = sum(min(each, now - begun) for begun in self.running.values())
        return (pending * each - done) / min(self.jobs, max(1, pending))


def _outcome(record: Outcome) -> str:
    if record.state == DONE:
        reached = "finished" if record.validation is None else f"{record.validation:.2f} % on validation"
        return f"{record.cell.id}: {reached}"
    first = record.message.partition("\n")[0]
    return f"{record.cell.id}: failed: {first}" if record.state == FAILED else f"{record.cell.id}: stopped"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def run_study(study: Study, folder: Path, jobs: int | None, retry: bool, faults: Sequence[str] = ()) -> int:
    """Begin a study in `folder`, or continue or extend the one that is there. Returns the exit code.

    Raises:
        ConfigError: with `faults`, everything that is wrong with it, or what differs from the study in the folder.
        GCPError: the folder is in use, or cannot be written; weights or images that the runs begin with are not there.
    """
    chosen = check(study, faults)
    study = replace(study, notes=list(dict.fromkeys([*study.notes, *_reductions(study, chosen)])))
    if study.tune:
        check(tune.trial_study(study))
    check_beginnings(study, chosen)
    _make(folder)
    with _locked(folder):
        if (folder / "study.yaml").is_file():
            study = read_study(folder / "study.yaml").extended(study)
            chosen = check(study)
        else:
            study = replace(study, threads=_threads(_device(study, chosen), jobs))
        code, study = _tune(study, folder, chosen, jobs, retry)
        if code:
            return code
        cells = cells_of(study, folder, chosen)
        lay_out(study, cells)
        return _go(study, folder, cells, jobs, retry)


def resume_study(folder: Path, jobs: int | None, retry: bool) -> int:
    """Continue the study in a folder with the settings that its cells have. Returns the exit code."""
    folder = _find(folder)
    with _locked(folder):
        study = read_study(folder / "study.yaml")
        if study.tune:
            code, study = _tune(study, folder, check(study), jobs, retry)
            if code:
                return code
        cells = cells_of(study, folder)
        if not all(cell.folder.config.is_file() for cell in cells):
            cells = cells_of(study, folder, check(study))
            lay_out(study, [cell for cell in cells if not cell.folder.config.is_file()])
        return _go(study, folder, cells, jobs, retry)


def _reductions(study: Study, chosen: Sequence[Variant]) -> list[str]:
    """A note on the heads that have no reduction although the study sets one."""
    dims = [dim for variant in chosen if (dim := config_of(study, variant).head.dim) is not None]
    without = list(dict.fromkeys(v.keys[HEAD] for v in chosen if pools_all_channels(study, v)))
    if not dims or not without:
        return []
    return [
        f"{', '.join(without)}: without the reduction to head.dim={min(dims)} of the others, so all channels of the "
        "last map are pooled; --reduce-average gives it the reduction too"
    ]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time."""
    lock = RunFolder(folder)
    try:
        lock.lock()
    except GCPError:
        raise GCPError(f"study {folder} is being run by another process; wait for it or end it") from None
    try:
        yield
    finally:
        lock.unlock()


def _find(folder: Path) -> Path:
    for place in (folder, folder.parent if folder.name == "study.yaml" else folder, Path("runs/studies") / folder):
        if (place / "study.yaml").is_file():
            return place
    raise GCPError(f"no study in {folder}: it has no study.yaml. A new study is started with --config FILE --heads ...")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = [file.name for file in folder.iterdir() if file.name not in (".lock", "cells", ".study.yaml.tmp")]
    except OSError as error:
        reason = error.strerror or error
        raise GCPError(f"cannot make the folder of the study {folder}: {reason}. Give --out FOLDER.") from error
    if foreign and not (folder / "study.yaml").is_file():
        raise GCPError(f"folder {folder} holds something else ({foreign[0]}). Give another --name.")


def _tune(study: Study, folder: Path, chosen: Sequence[Variant], jobs: int | None, retry: bool) -> tuple[int, Study]:
    """Run what is left of the tuning. Returns an exit code, and the study with what was chosen."""
    if not study.tune:
        return 0, study
    every = tune.trials(study, folder, chosen)
    cells = [cell for trial in every for cell in trial.cells]
    lay_out(tune.trial_study(study), cells)
    write_text(folder / "study.yaml", yaml_file.write(study.plain()))
    run = load(cells[0].folder.config).run
    places = _places(run.device, jobs, run.threads or 1)[: len(cells)]
    progress = StudyProgress(cells, len(places), lambda: tune.write_log(folder, study, every))
    records = [(cell, read(cell)) for cell in cells]
    left = [cell for cell, record in records if record.state == PENDING or (record.state == FAILED and record.again)]
    left += [cell for cell, record in records if retry and record.state == FAILED and not record.again]
    progress.say(f"tuning {folder}: {progress.line()}; {len(left)} to run, {len(places)} at once")
    code = run_cells(left, places, progress, images=False) if left else 0
    if code or any(read(cell).state == PENDING for cell in cells):
        progress.say(f"stopped. Continue with\n  {typed('ablate', f'resume={folder}')}")
        return code or 1, study
    lay_out(tune.trial_study(study), cells)  # whether the recipe is still the one that was tuned
    best = tune.choose(every)
    for line in tune.set_aside(study, folder, best, chosen):
        progress.say(line)
    study = replace(study, chosen=best)
    tune.write_log(folder, study, every)
    return 0, study


def _go(study: Study, folder: Path, cells: list[Cell], jobs: int | None, retry: bool) -> int:
    run = load(cells[0].folder.config).run
    places = _places(run.device, jobs, run.threads or 1)[: len(cells)]
    reference = cells[0].variant.label if study.reference is None else study.reference
    study = replace(study, jobs=len(places), reference=reference)
    write_text(folder / "study.yaml", yaml_file.write(study.plain()))
    noted = replace(study, notes=[*study.notes, *tune.notes(study)])
    progress = StudyProgress(cells, len(places), lambda: write_tables(folder, noted, cells))
    left = [cell for cell in cells if _to_run(cell, retry)]
    for note in noted.notes:
        progress.say(f"note: {note}")
    progress.say(f"study {folder}: {progress.line()}; {len(left)} to run, {len(places)} at once")
    code = run_cells(left, places, progress) if left else 0
    text = (folder / "table.md").read_text(encoding="utf-8")
    progress.say("")
    print_markdown(text)
    records = [read(cell) for cell in cells]
    failed = sum(record.state == FAILED for record in records)
    again = typed("ablate", f"resume={folder}")
    if code or any(record.state == PENDING for record in records):
        progress.say(f"stopped. Continue with\n  {again}")
        return code or 1
    if failed:
        progress.say(f"{failed} failed. Run them again with\n  {again} --retry-failed")
    from gcp.studies import report

    progress.say(f"report {report.write_report(folder)}")
    return 1 if failed else 0


def _to_run(cell: Cell, retry: bool) -> bool:
    """Whether it is not finished; a run that is, but does not say which images it has right, is scored once more."""
    record = read(cell)
    if record.state == DONE:
        return not (cell.folder.path / IMAGES).is_file() and cell.folder.last.is_file()
    return record.state == PENDING or (record.state == FAILED and (retry or record.again))


def _device(study: Study, chosen: Sequence[Variant]) -> str:
    return config_of(study, chosen[0]).run.device


def _places(device: str, jobs: int | None, threads: int) -> list[str | None]:
    """For each run at once the GPU that it is to have, None for what this process sees: all GPUs, or all cores.

    Without `jobs` as many runs as the cores can take with `threads` each: more threads than cores cost a multiple of
    the time.
    """
    if device.startswith("cuda:"):  # one of those that this process sees
        return [None] * (jobs or 1)
    gpus = [] if device == "cpu" else _gpus()
    if gpus:
        return [gpus[number % len(gpus)] for number in range(jobs or len(gpus))]
    return [None] * (jobs or max(1, _cores() // threads))


def _threads(device: str, jobs: int | None) -> int | None:
    """Of the processor for each run, at most OMP_NUM_THREADS of the environment; None where a GPU computes."""
    if device.startswith("cuda") or (device == "auto" and _gpus()):
        return None
    share, asked = max(1, _cores() // (jobs or _cores())), os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return min(share, int(asked)) if asked.isdecimal() and int(asked) > 0 else share


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them; looks without starting CUDA."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(number) for number in range(count)]
