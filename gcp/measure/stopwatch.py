"""Time of calls that take turns, so that a drift of the machine meets all of them alike."""

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from statistics import median
from typing import Any, TypeVar

import torch

AHEAD = 3_000_000  # cycles of the GPU, a millisecond and more: time to launch dozens of kernels
K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def timed(function: Callable[[], T], device: torch.device, ahead: bool = False) -> tuple[T, float]:
    """The result of a call and its milliseconds; on CUDA between two events on the current stream.

    A GPU that has nothing else to do waits for the host that launches its kernels. With `ahead` it is kept busy first,
    as in training, so that a few short kernels show the time that they take and not that of their launches.
    """
    if device.type != "cuda":
        start = time.perf_counter_ns()
        result = function()
        return result, (time.perf_counter_ns() - start) / 1e6
    torch.cuda.synchronize(device)
    with torch.cuda.device(device):
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        if ahead:
            torch.cuda._sleep(AHEAD)
        before.record()
        result = function()
        after.record()
    after.synchronize()
    return result, before.elapsed_time(after)


def take_turns(
    lap: Mapping[K, Callable[[], dict[str, float]]],
    warmup: int,
    repeats: int,
    watch: Callable[[range], Iterable[int]] = iter,
) -> dict[K, dict[str, list[float]]]:
    """Call A, B, C, A, B, C, ... and collect what each call measured, the first `warmup` rounds left out.

    Args:
        lap: for each name, one call that returns milliseconds by phase.
        warmup: rounds that are not counted.
        repeats: rounds that are counted.
        watch: wraps the rounds, for a progress bar.
    """
    times: dict[K, dict[str, list[float]]] = {name: {} for name in lap}
    for turn in watch(range(warmup + repeats)):
        for name, call in lap.items():
            for phase, milliseconds in call().items():
                if turn >= warmup:
                    times[name].setdefault(phase, []).append(milliseconds)
    return times


def spread(values: list[float]) -> dict[str, Any]:
    """Median, least and greatest of a list of times."""
    return {"median": median(values), "min": min(values), "max": max(values)}
