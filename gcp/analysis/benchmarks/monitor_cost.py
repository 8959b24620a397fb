"""What the spectral monitor costs: a step under observation against the same step without.

Both train on one batch of digits, in turns; the share is that of a run that observes one step out of `every`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from gcp.analysis.benchmarks.workload import Workload
from gcp.engine.monitor import Monitor
from gcp.engine.monitor.monitor import IMAGES
from gcp.engine.step import backward, gradient_norm, update, windows
from gcp.measure import spread, take_turns, timed


def measure_monitor(
    every: int, workload: Workload, repeats: int = 7, warmup: int = 1, watch: Callable[[range], Iterable[int]] = iter
) -> dict[str, Any]:
    """Measure steps with and without an observation.

    Args:
        every: steps between two observations.
        workload: what is trained.
        repeats: timed rounds; medians are of these.
        warmup: rounds before them.
        watch: wraps the rounds, for a progress bar.

    Returns:
        Plain values: `map` (samples), `channels` and `images` that are observed, `every`; milliseconds of a `step` and
        of an `observation` (observed step less plain step of the same round), and `share`, percent.

    Raises:
        UnknownNameError, OptionError, ShapeError: a model that cannot be built.
    """
    loader, state, recipe = workload.loader(), workload.state(), workload.recipe()
    device = torch.device(workload.device)
    feed, window = recipe.feed(loader, 10, device), next(windows(loader, recipe, 0))
    monitor, row = Monitor(state, recipe, every=1), {}

    def step() -> None:
        backward(state.model, window, recipe, feed, state.scaler)
        update(state, gradient_norm(state), None)

    def observed() -> None:
        monitor.begin(window, feed)
        step()
        row.update(monitor.end() or {})

    laps = {name: _lap(call, device) for name, call in (("step", step), ("observed", observed))}
    walls = {name: phases["wall"] for name, phases in take_turns(laps, warmup, repeats, watch).items()}
    pairs = list(zip(walls["observed"], walls["step"], strict=True))
    return {
        "map": row["samples"],
        "channels": row["channels"],
        "images": min(IMAGES, workload.batch_size),
        "every": every,
        "step": spread(walls["step"]),
        "observation": spread([watched - plain for watched, plain in pairs]),
        "share": spread([100 * (watched - plain) / (every * plain) for watched, plain in pairs]),
    }


def _lap(call: Callable[[], None], device: torch.device) -> Callable[[], dict[str, float]]:
    return lambda: {"wall": timed(call, device)[1]}
