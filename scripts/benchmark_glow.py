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
from functools import partial
from typing import Any

import benchmarking
import torch
from torch import Tensor, nn

from gcp.errors import OptionError, counted
from gcp.flow import Glow
from gcp.kernels.cpu import set_threads
from gcp.layers import InvertibleConv1x1
from gcp.layers.invertible import FORMS
from gcp.measure import spread, take_turns

SIZES = {
    "batch": (16, "images"),
    "images": (3, "channels of the images of the flow"),
    "size": (32, "side of the images of the flow"),
    "levels": (3, "of the flow"),
    "steps": (4, "of a level"),
    "width": (64, "of the couplings"),
}
PHASES = ("forward", "inverse", "both", "kept")
OURS = "svd"


@dataclass(frozen=True)
class TimedModule:
    """What is timed: a module, forward to outputs whose sum is differentiated, and back."""

    module: nn.Module
    forward: Callable[[], Tensor]
    inverse: Callable[[], Any]


@dataclass(frozen=True)
class FlowSizes:
    """Sizes, device and seed; the flow has images of `channels` x `size` x `size`."""

    batch: int
    channels: int
    size: int
    levels: int
    steps: int
    width: int
    device: torch.device
    seed: int


def convolution(form: str, channels: int, place: FlowSizes) -> TimedModule:
    """The convolution alone, on maps of a quarter of the size of the images."""
    torch.manual_seed(place.seed)
    layer = InvertibleConv1x1(channels, form).to(place.device)
    side = max(place.size // 4, 1)
    x = torch.randn(place.batch, channels, side, side).to(place.device)

    def forward() -> Tensor:
        y, log_det = layer(x)
        return y.sum() + log_det.sum()

    return TimedModule(layer, forward, lambda: layer.inverse(x))


def flow(form: str, place: FlowSizes) -> TimedModule:
    """A whole Glow."""
    torch.manual_seed(place.seed)
    shape = (place.channels, place.size, place.size)
    model = Glow(shape, place.levels, place.steps, place.width, form).to(place.device)
    images = (torch.rand(place.batch, *shape) - 0.5).to(place.device)
    model.initialise(images)
    latents = [e.detach() for e in model.encode(images)[0]]
    return TimedModule(model, lambda: model.log_prob(images).sum(), lambda: model.inverse(latents))


def compare(
    works: dict[str, TimedModule],
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


def forms_of(make: Callable[[str], TimedModule]) -> dict[str, TimedModule]:
    """The work of every form."""
    return {str(form): make(str(form)) for form in FORMS}


def _lap(work: TimedModule, device: torch.device) -> Callable[[], dict[str, float]]:
    def train() -> None:
        work.forward().backward()

    def lap() -> dict[str, float]:
        work.module.train()
        with torch.no_grad():
            _, forward = benchmarking.clocked(work.forward, device)
            _, inverse = benchmarking.clocked(work.inverse, device)
        work.module.zero_grad(set_to_none=True)
        _, both = benchmarking.clocked(train, device)
        work.module.eval()
        with torch.no_grad():
            work.inverse()
            _, kept = benchmarking.clocked(work.inverse, device)
        return {"forward": forward, "inverse": inverse, "both": both, "kept": kept}

    return lap


COLUMNS = "x: over svd, above 1 svd is\n          faster; kept: the inverse in eval mode, whose matrix is kept"


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """The times of one case."""
    phases = (("forward", "forward"), ("inverse", "inverse"), ("both", "fwd + bwd"), ("kept", "kept"))
    lines = [title, f"{'form':<8}" + "".join(f"{name:>12}{'x':>7}" for _, name in phases)]
    for row in rows:
        cells = ((row["time_ms"][phase]["median"], row["ratio"][phase]) for phase, _ in phases)
        lines.append(f"{row['form']:<8}" + "".join(f"{time:>12.2f}{ratio:>7.2f}" for time, ratio in cells))
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = benchmarking.parser(
        "Time of a step of Glow with plain, PLU and SVD 1x1 convolutions, which take turns in one run.",
        "python scripts/benchmark_glow.py --device cuda --steps 16 --width 512 --batch 64",
        repeats=5,
        warmup=1,
    )
    text = "of the convolution alone, on maps of a quarter of the size"
    benchmarking.several(parser, "--channels", [12, 48, 192], text)
    for name, (default, text) in SIZES.items():
        least = 2 if name == "size" else 1
        text = f"{text} ({default})"
        parser.add_argument(f"--{name}", type=benchmarking.whole(least), default=default, metavar="N", help=text)
    parser.set_defaults(threads=1)
    arguments = parser.parse_args(argv)
    if arguments.size % 2**arguments.levels:
        whole = f"a multiple of {2**arguments.levels}, which --levels {arguments.levels} halves as often"
        raise OptionError(f"--size is {arguments.size}; allowed: {whole}.")
    set_threads(arguments.threads)
    sizes = {name: getattr(arguments, name) for name in ("batch", "size", "levels", "steps", "width", "device", "seed")}
    place = FlowSizes(channels=arguments.images, **sizes)
    print(benchmarking.heading(arguments, "forms", COLUMNS))
    points: list[dict[str, Any]] = []

    def point(title: str, works: dict[str, TimedModule]) -> None:
        rows = compare(works, place.device, arguments.repeats, arguments.warmup, benchmarking.bar())
        points.append({"what": title, "rows": rows})
        print(f"\n{table(title, rows)}", flush=True)

    for channels in arguments.channels:
        side = max(place.size // 4, 1)
        title = f"convolution alone, {channels} channels, {place.batch} maps of {side} x {side}"
        point(title, forms_of(partial(convolution, channels=channels, place=place)))
    title = f"flow, {counted(place.levels, 'level')} of {counted(place.steps, 'step')}, width {place.width}, "
    title += f"{place.batch} images of {place.channels} x {place.size} x {place.size}"
    point(title, forms_of(partial(flow, place=place)))
    settings, environment = benchmarking.settings_of(arguments), benchmarking.describe_environment(place.device)
    benchmarking.save(arguments.json, {"settings": settings, "environment": environment, "points": points})
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
