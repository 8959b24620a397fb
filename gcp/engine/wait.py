"""For how long the device waits for images.

On the CPU it is the time in which the next batch is read. On CUDA reading goes on beside computing, and waiting
is the time on the device between two marks in its queue: one behind the work that was given to it, one set when the
next batch has arrived. A batch that arrives while the device is still busy costs nothing.
"""

import time
from collections.abc import Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


class DataTimer:
    """Stopwatch of `next` on a stream of batches."""

    def __init__(self, device: torch.device):
        self._device = device
        self._seconds = 0.0
        self._marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def next(self, stream: Iterator[T]) -> T | None:
        """The next element, None at the end."""
        if self._device.type != "cuda":
            started = time.perf_counter()
            element = next(stream, None)
            self._seconds += time.perf_counter() - started
            return element
        before = self._mark()
        element = next(stream, None)
        self._marks.append((before, self._mark()))
        return element

    def take(self) -> float:
        """Seconds since the last call. On CUDA only after a synchronisation that is behind the last `next`."""
        self._seconds += sum(before.elapsed_time(after) for before, after in self._marks) / 1000
        self._marks.clear()
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
