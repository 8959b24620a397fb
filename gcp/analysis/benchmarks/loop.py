"""The training loop against a bare one: what checks, sums, events and reading cost beside the model itself.

The bare loop has the same model, optimizer and batches, which lie on the device, normalised:

    for images, labels in batches:  zero_grad, forward, cross-entropy, backward, step
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gcp.analysis.benchmarks.workload import Workload
from gcp.data import Loader
from gcp.engine.feed import Feed
from gcp.engine.precision import autocast
from gcp.engine.state import TrainingState
from gcp.engine.step import Recipe
from gcp.engine.train import Events, fit
from gcp.measure import spread, take_turns, timed

Batches = list[tuple[Tensor, Tensor]]


def compare_loops(
    workload: Workload, repeats: int = 7, warmup: int = 1, watch: Callable[[range], Iterable[int]] = iter
) -> dict[str, Any]:
    """Measure epochs over the digits by `fit` and by the bare loop, in turns.

    Args:
        workload: what is trained.
        repeats: timed rounds; medians are of these.
        warmup: rounds before them.
        watch: wraps the rounds, for a progress bar.

    Returns:
        Plain values: `images` of an epoch, `rows` with `loop` and `images_per_second`, `ratio` (images per second
        of fit over those of the bare loop in the same round) and `data_wait` (percent of fit's time).

    Raises:
        UnknownNameError, OptionError, ShapeError: a model that cannot be built.
    """
    device, loader = torch.device(workload.device), workload.loader()
    ours, theirs = workload.state(), workload.state()
    feed = Feed(device, loader.normalize, workload.channels_last)
    batches = [feed(*batch) for batch in loader.epoch(0)]
    laps = {
        "fit": _fit(ours, loader, workload.recipe(), device),
        "bare": _bare(theirs, batches, device, workload.amp),
    }
    times = take_turns(laps, warmup, repeats, watch)
    count = loader.samples
    rates = {name: [1000 * count / lap for lap in measured["wall"]] for name, measured in times.items()}
    ratios = [mine / other for mine, other in zip(rates["fit"], rates["bare"], strict=True)]
    return {
        "images": count,
        "rows": [{"loop": name, "images_per_second": spread(values)} for name, values in rates.items()],
        "ratio": spread(ratios),
        "data_wait": spread([row["data_wait"] for row in ours.progress.history[-repeats:]]),
    }


def _fit(state: TrainingState, loader: Loader, recipe: Recipe, device: torch.device) -> Callable[[], dict[str, float]]:
    """A call that trains one more epoch."""

    def lap() -> dict[str, float]:
        epochs = state.progress.epoch + 1
        return {"wall": timed(lambda: fit(state, loader, recipe, _one, epochs, device, Events()), device)[1]}

    return lap


def _one(step: int) -> float:
    return 1.0


def _bare(state: TrainingState, batches: Batches, device: torch.device, amp: str) -> Callable[[], dict[str, float]]:
    model, optimizer, scaler = state.model, state.optimizer, state.scaler

    def epoch() -> None:
        model.train()
        for images, labels in batches:
            optimizer.zero_grad(set_to_none=True)
            with autocast(device, amp):
                logits = model(images)
            scaler.scale(F.cross_entropy(logits.float(), labels)).backward()
            scaler.step(optimizer)
            scaler.update()

    return lambda: {"wall": timed(epoch, device)[1]}
