"""The process of one cell: an ordinary run, continued from wherever it stands.

It is a group of its own, so that Ctrl-C on the terminal reaches the study alone, which then stops every cell with its
checkpoint. A cell whose study has died stops in the same way.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from gcp.engine.folder import RunFolder
from gcp.errors import GCPError, NonFiniteError
from gcp.studies.record import write_failure

PATIENCE = 60.0  # seconds that a cell of a study which was killed may take to end
LOG = "log.txt"


def work(path: str, gpu: str | None) -> None:
    """Make the run in folder `path`, which has its configuration. What it prints goes into `log.txt`.

    Exits with 0 when the run is finished, with 128 + the number of a signal that stopped it, and with 1 after a fault,
    which is written down.
    """
    os.setsid()
    _print_into(Path(path, LOG))
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything asks CUDA
    try:
        code = _run(RunFolder(path))
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


def _run(folder: RunFolder) -> int:
    from gcp.config import load
    from gcp.runs.launch import resume

    _wait_for(folder)
    return resume(load(folder.config), folder)


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


def _end_with_the_study() -> None:
    study = multiprocessing.parent_process()
    if study is not None:
        study.join()
        os.kill(os.getpid(), signal.SIGTERM)
