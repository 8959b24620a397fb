"""Several cells at once, each in a process of its own; one that dies takes nobody with it.

Starting a Python with torch takes seconds, so one process imports everything once and forks the others (the forkserver
of `multiprocessing`). It never touches a device, and neither does the study itself.
"""

import os
import signal
from collections import deque
from collections.abc import Sequence
from multiprocessing import connection, forkserver, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from gcp.runs.signals import StopSignal
from gcp.studies.cells import Cell
from gcp.studies.record import forget_failure, write_failure
from gcp.studies.worker import work

METHOD = "forkserver"
PRELOAD = [
    "torch.utils.tensorboard",
    "torchvision.transforms.v2",
    "timm",
    "sklearn.datasets",
    "gcp.runs.launch",
]
BEAT = 1.0  # seconds between two looks at the cells


class Watch(Protocol):
    """Who is told."""

    def started(self, cell: Cell) -> None:
        """A cell begins or goes on."""

    def ended(self, cell: Cell) -> None:
        """A cell is finished, has failed or was stopped; its folder says which."""

    def beat(self) -> None:
        """About once a second."""


def run_cells(cells: Sequence[Cell], places: Sequence[str | None], watch: Watch) -> int:
    """Run all of them, as many at once as there are places.

    Args:
        cells: that are not finished.
        places: for each run at once the GPU that it sees, as CUDA_VISIBLE_DEVICES names it; None: what the study sees.
        watch: who is told.

    Returns:
        0, or the exit code of the signal that ended it; then every cell has its checkpoint.
    """
    context, waiting, free = _context(), deque(cells), list(places)
    running: dict[BaseProcess, tuple[Cell, str | None]] = {}
    asked = False
    with StopSignal() as stop:
        try:
            while running or (waiting and not stop()):
                while free and waiting and not stop():
                    cell, gpu = waiting.popleft(), free.pop(0)
                    running[_start(context, cell, gpu)] = cell, gpu
                    watch.started(cell)
                connection.wait([process.sentinel for process in running], BEAT)
                if stop() and not asked:
                    asked = True
                    for process in running:
                        process.terminate()
                for process in [process for process in running if not process.is_alive()]:
                    cell, gpu = running.pop(process)
                    free.append(gpu)
                    _note(cell, process.exitcode or 0)
                    watch.ended(cell)
                watch.beat()
        except KeyboardInterrupt:  # asked for twice
            for process in running:
                process.kill()
            raise
        return stop.exit_code if stop() else 0


def _context() -> Any:
    context = get_context(METHOD)
    if METHOD == "forkserver":
        root = str(Path(__file__).parents[3])
        known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if root not in known:  # the server looks for what it imports beforehand nowhere else
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, *known]))
        context.set_forkserver_preload(PRELOAD)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server inherits it: Ctrl-C is for the study
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)
    return context


def _start(context: Any, cell: Cell, gpu: str | None) -> BaseProcess:
    forget_failure(cell.folder)
    # Not a daemon: a run has processes of its own that read images.
    process = context.Process(target=work, args=(str(cell.folder.path), gpu))
    process.start()
    return process


def _note(cell: Cell, code: int) -> None:
    """Write down a death by a signal; a run that was stopped or found a fault has said so itself."""
    if code < 0 and -code != signal.SIGTERM:
        name = signal.Signals(-code).name
        memory = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
        write_failure(cell.folder, f"the process was ended by {name}{memory}", again=True)
