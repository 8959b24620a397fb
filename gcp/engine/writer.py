"""Checkpoints written behind the training: it waits for the copy into host memory, not for the disk."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from gcp.engine import checkpoint

MOST = 2  # states in host memory that wait for the disk: a best.pt and a last.pt of one moment


class Writer:
    """Writes in the order of `submit`, one file at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: deque[Future[None]] = deque()

    def submit(self, path: Path, state: dict, keep: int = 1) -> None:
        """Write `state` as `checkpoint.save` does, later; it may change as soon as this returns.

        Raises:
            CheckpointError: an earlier file could not be written.
        """
        self.check()
        while len(self._pending) >= MOST:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(checkpoint.save, path, copied(state), keep))

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
