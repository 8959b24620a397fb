"""What a run has cost: time per step, images per second, memory, parameters."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import torch
from torch import nn

MIB = 2**20


def cost(history: Sequence[dict], model: nn.Module, device: torch.device) -> dict:
    """For `result.json`.

    Args:
        history: rows of the finished epochs.
        model: that was trained.
        device: that it is on.

    Returns:
        `seconds_per_step` and `images_per_second`: medians over the epochs, in which evaluation does not count, the
        first one left out where there are others; None without an epoch. `peak_memory_mib`, of this process since it
        began: `memory` says of what. `parameters`, trained or not.
    """
    steps = [later["step"] - earlier["step"] for earlier, later in pairwise([{"step": 0}, *history])]
    rows = list(zip(history, steps, strict=True))
    rows = rows[1:] or rows
    return {
        "seconds_per_step": median(row["seconds"] / count for row, count in rows) if rows else None,
        "images_per_second": median(row["images_per_second"] for row, _ in rows) if rows else None,
        **_memory(device),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def _memory(device: torch.device) -> dict:
    if device.type == "cuda":
        return {"peak_memory_mib": torch.cuda.max_memory_allocated(device) / MIB, "memory": "allocated on the GPU"}
    try:
        import resource
    except ImportError:  # not on this system
        return {"peak_memory_mib": None, "memory": "not measured"}
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak_memory_mib": peak / MIB, "memory": "resident set of the process"}
