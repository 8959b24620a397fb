"""The training loop against a bare one: what checks, sums, events and reading cost beside the model itself.

The bare loop has the same model, optimizer and batches, which lie on the device, normalised:

    for images, labels in batches:  zero_grad, forward, cross-entropy, backward, step
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcp.analysis.benchmarks.stopwatch import spread, take_turns, timed
from gcp.data import Loader, create_dataset
from gcp.engine.feed import Feed
from gcp.engine.optimizer import create_optimizer
from gcp.engine.precision import autocast, create_scaler
from gcp.engine.state import TrainingState
from gcp.engine.step import Recipe
from gcp.engine.train import Events, fit
from gcp.models import create_model
from gcp.models.groups import parameter_groups

Batches = list[tuple[Tensor, Tensor]]


def compare_loops(
    backbone: str = "resnet20_cifar",
    head: str = "svd_pade",
    dim: int | None = 64,
    batch_size: int = 64,
    image_size: int = 32,
    device: torch.device | str = "cpu",
    amp: str = "none",
    channels_last: bool = False,
    repeats: int = 7,
    warmup: int = 1,
    seed: int = 0,
    watch: Callable[[range], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Measure epochs over the digits by `fit` and by the bare loop, in turns.

    Args:
        backbone: any name of `gcp.create_model`.
        head: pooling head.
        dim: channels after its reduction.
        batch_size: images of a step.
        image_size: side of the images.
        device: where everything runs.
        amp: none, bf16 or fp16.
        channels_last: memory order of images and weights.
        repeats: timed rounds; medians are of these.
        warmup: rounds before them.
        seed: of weights and order.
        watch: wraps the rounds, for a progress bar.

    Returns:
        Plain values: `images` of an epoch, `rows` with `loop` and `images_per_second`, `ratio` (images per second
        of fit over those of the bare loop in the same round) and `data_wait` (percent of fit's time).

    Raises:
        UnknownNameError, OptionError, ShapeError: a model that cannot be built.
    """
    device = torch.device(device)
    loader = Loader(create_dataset("digits", image_size=image_size).images("train"), batch_size, train=True, seed=seed)
    order = torch.channels_last if channels_last else torch.contiguous_format
    torch.manual_seed(seed)
    model = create_model(backbone, head=head, num_classes=10, dim=dim).to(device).to(memory_format=order)
    recipe = Recipe(amp=amp, channels_last=channels_last, seed=seed)
    ours, theirs = _state(model, device, amp), _state(deepcopy(model), device, amp)
    feed = Feed(device, loader.normalize, channels_last)
    batches = [feed(*batch) for batch in loader.epoch(0)]
    laps = {"fit": _fit(ours, loader, recipe, device), "bare": _bare(theirs, batches, device, amp)}
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


def _state(model: nn.Module, device: torch.device, amp: str) -> TrainingState:
    optimizer = create_optimizer(parameter_groups(model, 0.01, 1e-4), "sgd", 0.01)
    return TrainingState(model, optimizer, create_scaler(device, amp))


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
