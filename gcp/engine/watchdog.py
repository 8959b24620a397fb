"""When one process of a run fails or hangs, all of them stop, and one message says which and why.

Every process counts where it is, and a thread of it looks, once a second, into the store that the processes share:

    failed     somebody has failed and said so: end at once, without a word
    beat/R     "place alive" of rank R: meetings of all processes that it has come to, and signs of life between them;
               when nothing has moved for `patience` seconds, the first to notice reports the ranks that have not
               come to the meeting at which the others wait, and ends the run
"""

import os
import sys
import threading
import time
from collections.abc import Callable

import torch.distributed as dist

INTERVAL = 1.0  # seconds between two looks
FAILED = 1  # exit code of a process that ends because of another


class Watchdog:
    """The thread of one process. `arrive` and `beat` are called by the training; they cost nothing.

    Args:
        store: shared by the processes.
        rank: of this process among `world`.
        patience: seconds without a beat of anybody after which the run counts as hanging.
        leave: ends the process with an exit code, at once and from any thread.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        world: int,
        patience: float = 600.0,
        leave: Callable[[int], object] = os._exit,
        interval: float = INTERVAL,
    ):
        self.store, self.rank, self.world = dist.PrefixStore("watchdog", store), rank, world
        self.patience, self.leave, self.interval = patience, leave, interval
        self.place = self.alive = 0
        self._told = (0, 0)
        self._seen: list[list[int]] = []
        self._moved = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.store.set(f"beat/{rank}", "0 0")

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, at the end of the run."""
        self.dismiss()
        if self._thread.is_alive():
            self._thread.join()

    def dismiss(self) -> None:
        """End the thread without waiting for it, in a process that ends by itself."""
        self._done.set()

    def arrive(self) -> None:
        """Called where all processes are about to meet."""
        self.place += 1

    def beat(self) -> None:
        """A sign of life of work that only this process does."""
        self.alive += 1

    def claim(self) -> bool:
        """Whether this process is the first to fail, so that its message is the one to show."""
        return self.store.add("failed", 1) == 1

    def expect_end(self, seconds: float = 60.0) -> None:
        """Give the process that failed the time to say so; the thread ends this process when it has."""
        self._done.wait(seconds)

    def _watch(self) -> None:
        while not self._done.wait(self.interval):
            try:
                ended = self._look()
            except (RuntimeError, dist.DistError):  # the store is gone, and with it the process that held it
                ended = True
            if ended and not self._done.is_set():
                sys.stdout.flush()
                self.leave(FAILED)
                return

    def _look(self) -> bool:
        """Whether this process has to end."""
        if self.store.check(["failed"]):
            return True
        if self._told != (self.place, self.alive):
            self._told = (self.place, self.alive)
            self.store.set(f"beat/{self.rank}", f"{self.place} {self.alive}")
        beats = [list(map(int, value.split())) for value in self._beats()]
        if beats != self._seen or not any(place for place, _ in beats):
            self._seen, self._moved = beats, time.monotonic()
        if time.monotonic() - self._moved < self.patience:
            return False
        if self.claim():
            os.write(2, hang_message([place for place, _ in beats], self.patience).encode())
        return True

    def _beats(self) -> list[bytes]:
        keys = [f"beat/{rank}" for rank in range(self.world)]
        # Before everybody has begun a key may be missing, and to ask for it would block the store's other users.
        return self.store.multi_get(keys) if self.store.check(keys) else []


def hang_message(places: list[int], patience: float) -> str:
    """What is said when none of `places`, one per rank, has moved for `patience` seconds."""
    late = [f"rank {rank}" for rank, place in enumerate(places) if place < max(places)]
    who = f"waiting for {', '.join(late)}" if late else "no rank is behind the others"
    return f"error: no step for {patience:g} s; {who}. The run is stopped; its last checkpoint is whole.\n"
