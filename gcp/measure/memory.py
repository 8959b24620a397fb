"""Memory of a computation: what its graph saves for the backward, and the peak of what it allocates."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor


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


def _cpu_balance(function: Callable[[], object]) -> list[int]:
    """Bytes allocated after each allocation or release of a call."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
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
