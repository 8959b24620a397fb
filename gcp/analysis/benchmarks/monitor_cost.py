"""What the spectral monitor costs: a step under observation against the same step without.

Both train on one batch of digits, in turns; the share is that of a run that observes one step out of `every`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from gcp.analysis.benchmarks.stopwatch import spread, take_turns, timed
from gcp.data import Loader, create_dataset
from gcp.engine.monitor import Monitor
from gcp.engine.monitor.monitor import IMAGES
from gcp.engine.optimizer import create_optimizer
from gcp.engine.precision import create_scaler
from gcp.engine.state import TrainingState
from gcp.engine.step import Recipe, backward, gradient_norm, update, windows
from gcp.models import create_model
from gcp.models.groups import parameter_groups


def measure_monitor(
    every: int,
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
    """Measure steps with and without an observation.

    Args:
        every: steps between two observations.
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
        Plain values: `map` (samples), `channels` and `images` that are observed, `every`; milliseconds of a `step` and
        of an `observation` (observed step less plain step of the same round), and `share`, percent.

    Raises:
        UnknownNameError, OptionError, ShapeError: a model that cannot be built.
    """
    device = torch.device(device)
    loader = Loader(create_dataset("digits", image_size=image_size).images("train"), batch_size, train=True, seed=seed)
    order = torch.channels_last if channels_last else torch.contiguous_format
    torch.manual_seed(seed)
    model = create_model(backbone, head=head, num_classes=10, dim=dim).to(device).to(memory_format=order)
    optimizer = create_optimizer(parameter_groups(model, 0.01, 1e-4), "sgd", 0.01)
    state = TrainingState(model, optimizer, create_scaler(device, amp))
    recipe = Recipe(amp=amp, channels_last=channels_last, seed=seed)
    feed, window = recipe.feed(loader, 10, device), next(windows(loader, recipe, 0))
    monitor, row = Monitor(state, recipe, every=1), {}

    def step() -> None:
        backward(model, window, recipe, feed, state.scaler)
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
        "images": min(IMAGES, batch_size),
        "every": every,
        "step": spread(walls["step"]),
        "observation": spread([watched - plain for watched, plain in pairs]),
        "share": spread([100 * (watched - plain) / (every * plain) for watched, plain in pairs]),
    }


def _lap(call: Callable[[], None], device: torch.device) -> Callable[[], dict[str, float]]:
    return lambda: {"wall": timed(call, device)[1]}
