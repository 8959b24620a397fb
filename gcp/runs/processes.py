"""One command in several processes, and the signals that ask it to stop.

Only rank 0 prints. When a process fails, the first to fail prints its error with its rank, and all others end within
seconds without a message, because theirs would only be that the connection to it was lost.
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from torch.distributed import DistBackendError, DistError

from gcp.command import Printable, tell_launcher
from gcp.engine.distributed import Group, connect, disconnect, from_environment
from gcp.engine.watchdog import FAILED, Watchdog
from gcp.errors import GCPError, user_message

STDERR = 2
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]


class StopSignal:
    """Context manager that catches Ctrl-C, SIGTERM and SIGUSR1, so that the step is finished and a checkpoint written.

    Calling it returns whether a stop was asked for. Schedulers send SIGTERM or SIGUSR1 before they take a machine away.
    A second signal ends the run at once.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._owner = os.getpid()
        self._before: dict[int, object] = {}

    def __call__(self) -> bool:
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it; that of SIGTERM where another process was asked."""
        return 128 + (self.number or signal.SIGTERM)

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # elsewhere signals cannot be caught
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a data worker forked from the run: the run decides, not the terminal
            if number == signal.SIGTERM:
                os._exit(0)
            return
        if self.number is not None:
            if number != self.number and "TORCHELASTIC_RUN_ID" in os.environ:
                return  # torchrun passes on, as another signal, what the terminal has sent every process already
            raise KeyboardInterrupt
        self.number = number
        with suppress(OSError):  # stderr is closed; not through sys.stderr, which may be in the middle of a write
            os.write(STDERR, b"\nstopping after this step\n")


GRACE = 3.0  # seconds that a process leaves to another one whose failure may be the cause of its own


@contextmanager
def process_group() -> Iterator[Group]:
    """The processes of this command: connected at the start, and all ended when one of them fails."""
    group = from_environment()
    store = connect(group)
    if store is None:
        yield group
        return
    watchdog = Watchdog(store, group.rank, group.world)
    watchdog.start()
    if not group.main:
        _discard_output()
    try:
        yield replace(group, store=store, watchdog=watchdog)
        watchdog.stop()  # before the first of them ends, and perhaps the store with it
        disconnect()
    except BaseException as error:
        _fail(watchdog, group, error)


def _fails_first(watchdog: Watchdog) -> bool:
    try:
        return watchdog.report_failure()
    except (RuntimeError, DistError):  # the store has ended with the process that held it
        return False


def log_to(path: Path) -> None:
    """Let a process that is not rank 0 write its log and its output into a file."""
    file: Any = Printable(open(path, "a", buffering=1, encoding="utf-8"))  # noqa: SIM115 (open until the process ends)
    sys.stdout = file
    logging.basicConfig(level=logging.INFO, stream=file, format="%(asctime)s %(message)s", force=True)
    logging.disable(logging.NOTSET)


def _discard_output() -> None:
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def _fail(watchdog: Watchdog, group: Group, error: BaseException) -> NoReturn:
    """End this process, and print `error` where it is the first of the run to fail.

    By `os._exit`: the ordinary end of the interpreter may abort when a connection of the process group is lost, and
    then the exit code would no longer distinguish a user's fault from a defect.
    """
    if not isinstance(error, GCPError | KeyboardInterrupt):
        # Perhaps a collective operation failed because another process did, which needs a moment to report it.
        watchdog.wait_for_failure(GRACE)
    watchdog.cancel()
    if not _fails_first(watchdog):
        time.sleep(GRACE)
        os._exit(FAILED)
    sys.stdout.flush()
    code = _print_error(f"rank {group.rank} of {group.world}", error)
    sys.stderr.flush()
    os._exit(code)


def _print_error(who: str, error: BaseException) -> int:
    """Print the message or the traceback of an error on stderr. Returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    text = str(error).partition("\n")[0]
    message = user_message(error)
    if "closed by peer" in text or "reset by peer" in text or isinstance(error, DistBackendError):
        message = f"another process has ended without a message, perhaps killed ({text})"
    if message is not None:
        print(f"error: {who}: {message}", file=sys.stderr)
        tell_launcher(f"{who}: {message}")
        return 2
    print(f"{who} failed:", file=sys.stderr)
    traceback.print_exception(error)
    return 1
