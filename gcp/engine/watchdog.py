"""Ends all processes of a run when one of them fails or hangs, with one message that says which and why.

Each process has a watchdog thread, which looks once a second into the key-value store that the processes share:

    failed       how many processes have reported a failure: where there is one, this process ends without a message
    beat/RANK    "collectives heartbeats" of a rank: collective operations that it has begun, and signs of progress
                 between them

Where no count has changed for `timeout` seconds, the run hangs: the first process that notices reports the ranks that
have begun fewer collective operations than the others, and all end.
"""

import os
import sys
import threading
import time
from collections.abc import Callable

import torch.distributed as dist

INTERVAL = 1.0  # seconds between two checks
FAILED = 1  # exit code of a process that ends because of another


class Watchdog:
    """The watchdog of one process. The training calls `before_collective` and `heartbeat`, which only count.

    Args:
        store: shared by the processes.
        rank: of this process among `world`.
        timeout: seconds without progress of any process after which the run counts as hanging.
        exit: ends the process with an exit code, at once and from any thread.
        interval: seconds between two checks.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        world: int,
        timeout: float = 600.0,
        exit: Callable[[int], object] = os._exit,
        interval: float = INTERVAL,
    ):
        self.store, self.rank, self.world = dist.PrefixStore("watchdog", store), rank, world
        self.timeout, self.exit, self.interval = timeout, exit, interval
        self.collectives = self.heartbeats = 0
        self._written = (0, 0)
        self._counts: list[list[int]] = []  # of all ranks at the last check
        self._changed = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.store.set(f"beat/{rank}", "0 0")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it, at the end of the run."""
        self.cancel()
        if self._thread.is_alive():
            self._thread.join()

    def cancel(self) -> None:
        """End the thread without waiting for it, in a process that ends by itself."""
        self._done.set()

    def before_collective(self) -> None:
        """Count a collective operation that this process is about to begin."""
        self.collectives += 1

    def heartbeat(self) -> None:
        """Count a sign of progress between two collective operations."""
        self.heartbeats += 1

    def report_failure(self) -> bool:
        """Tell the others that this process fails. True for the first of them, which has to print the reason."""
        return self.store.add("failed", 1) == 1

    def wait_for_failure(self, seconds: float = 60.0) -> None:
        """Wait for the report of another process, upon which the thread ends this one."""
        self._done.wait(seconds)

    def _watch(self) -> None:
        while not self._done.wait(self.interval):
            try:
                ends = self._check()
            except (RuntimeError, dist.DistError):  # the store is gone, and with it the process that held it
                ends = True
            if ends and not self._done.is_set():
                sys.stdout.flush()
                self.exit(FAILED)
                return

    def _check(self) -> bool:
        """Whether this process has to end."""
        if self.store.check(["failed"]):
            return True
        own = (self.collectives, self.heartbeats)
        if own != self._written:
            self._written = own
            self.store.set(f"beat/{self.rank}", f"{own[0]} {own[1]}")
        counts = [list(map(int, value.split())) for value in self._read()]
        if counts != self._counts or not any(collectives for collectives, _ in counts):
            self._counts, self._changed = counts, time.monotonic()
        if time.monotonic() - self._changed < self.timeout:
            return False
        if self.report_failure():
            os.write(2, hang_message([collectives for collectives, _ in counts], self.timeout).encode())
        return True

    def _read(self) -> list[bytes]:
        keys = [f"beat/{rank}" for rank in range(self.world)]
        # Before all processes have started a key may be missing, and reading it would block other users of the store.
        return self.store.multi_get(keys) if self.store.check(keys) else []


def hang_message(collectives: list[int], timeout: float) -> str:
    """The message where none of `collectives`, one count per rank, has changed for `timeout` seconds."""
    late = [f"rank {rank}" for rank, count in enumerate(collectives) if count < max(collectives)]
    who = f"waiting for {', '.join(late)}" if late else "no rank is behind the others"
    return f"error: no step for {timeout:g} s; {who}. The run is stopped; its last checkpoint is whole.\n"
