"""Times of the methods of one task, in turns, and their ratios to ours."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch

from gcp.analysis.benchmarks.layer_methods import METHODS, OURS, Place, Work
from gcp.analysis.benchmarks.layer_norms import hardest
from gcp.measure import spread, take_turns, timed

PHASES = ("forward", "backward", "both")
T = Any


def compare(
    task: str,
    methods: list[str],
    place: Place,
    blocks: list[int] | None = None,
    repeats: int = 7,
    warmup: int = 1,
    watch: Callable[[range], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Forward and backward times of each method at one size.

    Args:
        task: of `METHODS`.
        methods: of that task; ours must be among them.
        place: sizes, device, seed.
        blocks: our method also with these blocks, as `gcp:32` and so on.
        repeats: timed rounds; medians are of these.
        warmup: rounds before them.
        watch: wraps the rounds, for a progress bar.

    Returns:
        Plain values: `task`, `d`, `columns` and `rows`, each with `method`, `time_ms` (spread of each phase) and
        `ratio`, its median over ours by phase: above 1 ours is faster; of `spectral` also `norm`, see
        `gcp.analysis.benchmarks.layer_norms.hardest`.
    """
    prepared: dict[str, Work] = {name: METHODS[task][name](place) for name in methods}
    for block in (blocks or []) if task != "spectral" else []:
        prepared[f"{OURS}:{block}"] = METHODS[task][OURS](replace(place, block=block))
    laps = {name: _lap(work, place) for name, work in prepared.items()}
    times = take_turns(laps, warmup, repeats, watch)
    spreads = {name: {phase: spread(times[name][phase]) for phase in PHASES} for name in laps}
    rows = [
        {
            "method": name,
            "time_ms": spreads[name],
            "ratio": {p: spreads[name][p]["median"] / spreads[OURS][p]["median"] for p in PHASES},
        }
        for name in laps
    ]
    if task == "spectral":
        rows = [row | {"norm": hardest(str(row["method"]), place.d, place.seed)} for row in rows]
    return {"task": task, "d": place.d, "columns": place.m, "rows": rows}


def _lap(work: Work, place: Place) -> Callable[[], dict[str, float]]:
    generator = torch.Generator().manual_seed(place.seed + 2)
    upstream = [torch.randn(out.shape, generator=generator).to(out) for out in work.call()]

    def lap() -> dict[str, float]:
        outputs, forward = clocked(work.call, place.device)
        _, backward = clocked(
            lambda: torch.autograd.grad(outputs, work.leaves, upstream, allow_unused=True), place.device
        )
        return {"forward": forward, "backward": backward, "both": forward + backward}

    return lap


def clocked(function: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """The result of a call and its milliseconds.

    With one thread on the CPU they are of processor time, which others on the machine do not lengthen; else of `timed`.
    """
    if device.type != "cpu" or torch.get_num_threads() > 1:
        return timed(function, device)
    start = time.process_time_ns()
    result = function()
    return result, (time.process_time_ns() - start) / 1e6
