"""Time of the forms of invertible 1x1 convolutions, alone and in a flow, in turns in one run.

| phase | what is called |
|---|---|
| `forward` | outputs and log-determinant, without gradients |
| `inverse` | the way back, without gradients; the inverse matrix is made anew |
| `both` | forward and backward |
| `kept` | the way back in eval mode, where the inverse matrix is kept |
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcp.analysis.benchmarks.layers import clocked
from gcp.flow import Glow
from gcp.layers import InvertibleConv1x1
from gcp.layers.invertible import FORMS
from gcp.measure import spread, take_turns

PHASES = ("forward", "inverse", "both", "kept")
OURS = "svd"


@dataclass(frozen=True)
class Work:
    """What is timed: a module, forward to outputs whose sum is differentiated, and back."""

    module: nn.Module
    forward: Callable[[], Tensor]
    inverse: Callable[[], Any]


@dataclass(frozen=True)
class Place:
    """Sizes, device and seed; the flow has images of `channels` x `size` x `size`."""

    batch: int
    channels: int
    size: int
    levels: int
    steps: int
    width: int
    device: torch.device
    seed: int


def convolution(form: str, channels: int, place: Place) -> Work:
    """The convolution alone, on maps of a quarter of the size of the images."""
    torch.manual_seed(place.seed)
    layer = InvertibleConv1x1(channels, form).to(place.device)
    side = max(place.size // 4, 1)
    x = torch.randn(place.batch, channels, side, side).to(place.device)

    def forward() -> Tensor:
        y, log_det = layer(x)
        return y.sum() + log_det.sum()

    return Work(layer, forward, lambda: layer.inverse(x))


def flow(form: str, place: Place) -> Work:
    """A whole Glow."""
    torch.manual_seed(place.seed)
    shape = (place.channels, place.size, place.size)
    model = Glow(shape, place.levels, place.steps, place.width, form).to(place.device)
    images = (torch.rand(place.batch, *shape) - 0.5).to(place.device)
    model.initialise(images)
    latents = [e.detach() for e in model.encode(images)[0]]
    return Work(model, lambda: model.log_prob(images).sum(), lambda: model.inverse(latents))


def compare(
    works: dict[str, Work],
    device: torch.device,
    repeats: int,
    warmup: int,
    watch: Callable[[range], Iterable[int]] = iter,
) -> list[dict[str, Any]]:
    """For each form its `time_ms` (spread of each phase), and `ratio`, its medians over those of svd: above 1 svd is
    faster.
    """
    times = take_turns({form: _lap(work, device) for form, work in works.items()}, warmup, repeats, watch)
    spreads = {form: {phase: spread(times[form][phase]) for phase in PHASES} for form in works}
    return [
        {
            "form": form,
            "time_ms": spreads[form],
            "ratio": {phase: spreads[form][phase]["median"] / spreads[OURS][phase]["median"] for phase in PHASES},
        }
        for form in works
    ]


def forms_of(make: Callable[[str], Work]) -> dict[str, Work]:
    """The work of every form."""
    return {str(form): make(str(form)) for form in FORMS}


def _lap(work: Work, device: torch.device) -> Callable[[], dict[str, float]]:
    def train() -> None:
        work.forward().backward()

    def lap() -> dict[str, float]:
        work.module.train()
        with torch.no_grad():
            _, forward = clocked(work.forward, device)
            _, inverse = clocked(work.inverse, device)
        work.module.zero_grad(set_to_none=True)
        _, both = clocked(train, device)
        work.module.eval()
        with torch.no_grad():
            work.inverse()
            _, kept = clocked(work.inverse, device)
        return {"forward": forward, "inverse": inverse, "both": both, "kept": kept}

    return lap
