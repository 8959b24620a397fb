"""Several cells at once, each in a process of its own; one that dies takes nobody with it.

Starting a Python with torch takes seconds, so one process imports everything once and forks the others (the forkserver
of `multiprocessing`). It never touches a device, and neither does the study itself.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Sequence
from multiprocessing import connection, forkserver, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from gcp.command import Printable
from gcp.engine.folder import RunFolder
from gcp.errors import GCPError, NonFiniteError
from gcp.runs.processes import StopSignal
from gcp.studies.cells import PENDING, Cell, forget_failure, read, write_failure, write_images

PATIENCE = 60.0  # seconds that a cell of a study which was killed may take to end
LOG = "log.txt"


def work(path: str, gpu: str | None, images: bool = True) -> None:
    """Make the run in folder `path`, which has its configuration. What it prints goes into `log.txt`.

    images: whether it is to say which test images it has right.

    Exits with 0 when the run is finished, with 128 + the number of a signal that stopped it, and with 1 after a fault,
    which is written down.
    """
    os.setsid()
    _print_into(Path(path, LOG))
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything asks CUDA
    try:
        code = _run(RunFolder(path), images)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except Exception as error:
        traceback.print_exc()
        text = str(error) if isinstance(error, GCPError) else f"{type(error).__name__}: {error}"
        write_failure(RunFolder(path), text, nonfinite=isinstance(error, NonFiniteError))
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _run(folder: RunFolder, images: bool) -> int:
    from gcp.config import load
    from gcp.runs.launch import resume

    _wait_for(folder)
    code = resume(load(folder.config, written=True), folder)
    if code == 0 and images and folder.last.is_file():
        try:
            write_images(folder)
        except Exception:  # the run has its result: only the share of the test images in the intervals is lost
            traceback.print_exc()
    return code


def _wait_for(folder: RunFolder) -> None:
    """Until the process of a study that was killed has let go of the run."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            folder.lock()
        except GCPError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            folder.unlock()
            return


def _print_into(path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    sys.stdout, sys.stderr = Printable(sys.stdout), Printable(sys.stderr)  # type: ignore[assignment]


def _end_with_the_study() -> None:
    study = multiprocessing.parent_process()
    if study is not None:
        study.join()
        os.kill(os.getpid(), signal.SIGTERM)


METHOD = "forkserver"
PRELOAD = [
    "torch.utils.tensorboard",
    "torchvision.transforms.v2",
    "timm",
    "sklearn.datasets",
    "gcp.runs.launch",
]
BEAT = 1.0  # seconds between two looks at the cells


class PoolObserver(Protocol):
    """Is notified of what happens to the cells."""

    def started(self, cell: Cell) -> None:
        """A cell begins or goes on."""

    def ended(self, cell: Cell) -> None:
        """A cell is finished, has failed or was stopped; its folder says which."""

    def beat(self) -> None:
        """About once a second."""


def run_cells(cells: Sequence[Cell], places: Sequence[str | None], watch: PoolObserver, images: bool = True) -> int:
    """Run all of them, as many at once as there are places.

    Args:
        cells: that are not finished.
        places: for each run at once the GPU that it sees, as CUDA_VISIBLE_DEVICES names it; None: what the study sees.
        watch: is notified.
        images: whether each run is to say which test images it has right.

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
                    running[_start(context, cell, gpu, images)] = cell, gpu
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


def _start(context: Any, cell: Cell, gpu: str | None, images: bool) -> BaseProcess:
    forget_failure(cell.folder)
    # Not a daemon: a run has processes of its own that read images.
    process = context.Process(target=work, args=(str(cell.folder.path), gpu, images))
    process.start()
    return process


def _note(cell: Cell, code: int) -> None:
    """Write down a death that the run could not report: by a signal, or before it had begun. A run that was stopped
    or found a fault has said so itself.
    """
    if code < 0 and -code != signal.SIGTERM:
        name = signal.Signals(-code).name
        memory = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
        write_failure(cell.folder, f"the process was ended by {name}{memory}", again=True)
    elif code == 1 and read(cell).state == PENDING:
        write_failure(cell.folder, "the process ended before the run began", again=True)
