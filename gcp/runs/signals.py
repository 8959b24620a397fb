"""Ctrl-C, SIGTERM and SIGUSR1 during training: finish the step, write a checkpoint, end.

Schedulers send SIGTERM or SIGUSR1 before they take a machine away. A second signal ends the run at once.
"""

import os
import signal
import threading
from contextlib import suppress
from types import FrameType

STDERR = 2
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]


class StopSignal:
    """Context manager; calling it tells whether a stop was asked for."""

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
                return  # torchrun passes on in its own words what the terminal has told every process already
            raise KeyboardInterrupt
        self.number = number
        with suppress(OSError):  # stderr is closed; not through sys.stderr, which may be in the middle of a write
            os.write(STDERR, b"\nstopping after this step\n")
