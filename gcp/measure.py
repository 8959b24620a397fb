"""Time and memory of a piece of code: calls that take turns, so that a drift of the machine meets all of them alike."""

import json
import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch import Tensor

AHEAD = 3_000_000  # cycles of the GPU, a millisecond and more: time to launch dozens of kernels
KINETO = "KINETO_LOG_LEVEL"  # of the library behind the profiler of torch
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


def saved_bytes(forward: Callable[[], object]) -> int:
    """Bytes that a forward keeps for its backward, each storage once, an input that is saved included."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an output that is saved would hold its own graph, and never be freed

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()  # kept, so that no address is given out twice
    del result
    return sum(sizes.values())


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """Greatest number of bytes allocated at once by a call, above what was there before it.

    On CUDA the allocator's own figure. Elsewhere every allocation and release on the CPU, from torch's
    profiler: temporaries inside an operation count, buffers that a BLAS library keeps for itself do not.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    return max(_cpu_balance(function), default=0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the profiler's own log, such as an ERROR where there is no GPU, off the terminal, unless the user asked."""
    if KINETO in os.environ:
        yield
        return
    os.environ[KINETO] = "99"  # above every level that it knows
    try:
        yield
    finally:
        os.environ.pop(KINETO, None)


def _cpu_balance(function: Callable[[], object]) -> list[int]:
    """Bytes allocated after each allocation or release of a call."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with _quiet(), torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        function()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))  # the one public place that has single allocations
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    records = [event for event in events if event.get("name") == "[memory]"]
    records = [event for event in records if event["args"]["Device Type"] == 0]  # the processor
    if not records:
        return []
    records.sort(key=lambda event: event["ts"])
    totals = [event["args"]["Total Allocated"] for event in records]
    start = totals[0] - records[0]["args"]["Bytes"]  # the counter goes on from one profile to the next
    return [total - start for total in totals]
