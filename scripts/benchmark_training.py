"""Speed of training beside the model itself, and of reading images.

* loop: epochs over the digits by gcp's fit, and by a bare loop of the same model on the same batches, which lie on the
  device, normalised: `zero_grad, forward, cross-entropy, backward, step`. The difference is what checks, sums, events
  and reading cost.
* loader: epochs over a generated folder of JPEG files by our loader, timm's and torchvision's. All read the same files
  in batches of one size, with a random resized crop and a mirror, in turns. Ours leaves normalisation to the device;
  the row "normalised" does it on the CPU after all, as the others do.
* monitor: steps on one batch of digits with and without an observation of the spectrum (monitor.spectrum); the share is
  that of a run that observes one step out of `every`.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchmarking
import torch
import torch.nn.functional as F
from benchmarked_loaders import PHOTOGRAPHS, compare_loaders, write_photographs
from torch import Tensor

from gcp.callbacks.monitor.monitor import IMAGES, HeadMonitor
from gcp.data import Loader, create_dataset
from gcp.engine.device import ToDevice, autocast, create_scaler
from gcp.engine.optimizer import create_optimizer
from gcp.engine.state import TrainingState
from gcp.engine.step import StepOptions, backward, gradient_norm, update, windows
from gcp.engine.train import Events, fit
from gcp.errors import UnknownNameError
from gcp.kernels.cpu import set_threads
from gcp.measure import spread, take_turns, timed
from gcp.models import create_model
from gcp.models.parts import parameter_groups


@dataclass(frozen=True)
class Workload:
    """A head on a backbone, on the handwritten digits: the same weights and batches each time."""

    backbone: str = "resnet20_cifar"
    head: str = "svd_pade"
    dim: int | None = 64
    batch_size: int = 64
    image_size: int = 32
    device: torch.device | str = "cpu"
    amp: str = "none"
    channels_last: bool = False
    seed: int = 0

    def loader(self) -> Loader:
        """Batches of the training split."""
        images = create_dataset("digits", image_size=self.image_size).images("train")
        return Loader(images, self.batch_size, train=True, seed=self.seed)

    def step_options(self) -> StepOptions:
        """How a step is made."""
        return StepOptions(amp=self.amp, channels_last=self.channels_last, seed=self.seed)

    def state(self) -> TrainingState:
        """A model at its beginning, with SGD. Errors as of `gcp.create_model`."""
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        torch.manual_seed(self.seed)
        model = create_model(self.backbone, head=self.head, num_classes=10, dim=self.dim)
        model = model.to(self.device).to(memory_format=order)
        optimizer = create_optimizer(parameter_groups(model, 0.01, 1e-4), "sgd", 0.01)
        return TrainingState(model, optimizer, create_scaler(torch.device(self.device), self.amp))


def _wall(call: Callable[[], None], device: torch.device) -> Callable[[], dict[str, float]]:
    return lambda: {"wall": timed(call, device)[1]}


def compare_loops(
    workload: Workload, repeats: int = 7, warmup: int = 1, watch: Callable[[range], Iterable[int]] = iter
) -> dict[str, Any]:
    """Measure epochs over the digits by `fit` and by the bare loop, in turns.

    Returns:
        Plain values: `images` of an epoch, `rows` with `loop` and `images_per_second`, `ratio` (images per second
        of fit over those of the bare loop in the same round) and `data_wait` (percent of fit's time).
    """
    device, loader = torch.device(workload.device), workload.loader()
    ours, theirs = workload.state(), workload.state()
    to_device = ToDevice(device, loader.normalize, workload.channels_last)
    batches = [to_device(*batch) for batch in loader.epoch(0)]
    laps = {
        "fit": _fit(ours, loader, workload.step_options(), device),
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


def _fit(
    state: TrainingState, loader: Loader, step_options: StepOptions, device: torch.device
) -> Callable[[], dict[str, float]]:
    """A call that trains one more epoch."""

    def lap() -> dict[str, float]:
        epochs = state.progress.epoch + 1
        return {"wall": timed(lambda: fit(state, loader, step_options, _one, epochs, device, Events()), device)[1]}

    return lap


def _one(step: int) -> float:
    return 1.0


def _bare(
    state: TrainingState, batches: list[tuple[Tensor, Tensor]], device: torch.device, amp: str
) -> Callable[[], dict[str, float]]:
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

    return _wall(epoch, device)


def measure_monitor(
    every: int, workload: Workload, repeats: int = 7, warmup: int = 1, watch: Callable[[range], Iterable[int]] = iter
) -> dict[str, Any]:
    """Measure steps with and without an observation.

    Returns:
        Plain values: `map` (samples), `channels` and `images` that are observed, `every`; milliseconds of a `step` and
        of an `observation` (observed step less plain step of the same round), and `share`, percent.
    """
    loader, state, step_options = workload.loader(), workload.state(), workload.step_options()
    device = torch.device(workload.device)
    to_device, window = step_options.to_device(loader, 10, device), next(windows(loader, step_options, 0))
    monitor, row = HeadMonitor(state, step_options, 1, to_device), {}

    def step() -> None:
        backward(state.model, window, step_options, to_device, state.scaler)
        update(state, gradient_norm(state), None)

    def observed() -> None:
        monitor.begin(window)
        step()
        row.update(monitor.end() or {})

    laps = {name: _wall(call, device) for name, call in (("step", step), ("observed", observed))}
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


def loop_table(point: dict[str, Any]) -> str:
    """Images per second of both loops, their ratio, and what the device waited for."""
    lines = [
        f"loop: epochs of {point['images']} images in memory, {_threads(point)}; fit has the batches read and "
        "checks every step",
        f"{'':<12}{'images/s':>10}   {'least to greatest':<20}",
    ]
    lines += [f"{row['loop']:<12}{_rate(row['images_per_second'])}" for row in point["rows"]]
    ratio, wait = point["ratio"], point["data_wait"]
    lines.append(f"fit / bare  {ratio['median']:>10.3f}   {ratio['min']:.3f} to {ratio['max']:.3f}")
    lines.append(f"data wait   {wait['median']:>9.1f} %   {wait['min']:.1f} to {wait['max']:.1f}")
    return "\n".join(lines)


def loader_table(point: dict[str, Any]) -> str:
    """Images per second and core of each loader, and the time of each over that of ours."""
    plural = "s" if point["workers"] > 1 else ""
    workers = f"{point['workers']} worker{plural} each" if point["workers"] else "read by the calling process"
    lines = [
        f"loader: {PHOTOGRAPHS.format(count=point['images'])}; {workers}, {_threads(point)}",
        f"{'':<24}{'images/s/core':>14}   {'least to greatest':<20}{'cpu ms/image':>13}{'time over gcp':>15}",
    ]
    for row in point["rows"]:
        rate = _rate(row["images_per_second"], 14)
        cpu = f"{row['cpu_ms']['median']:.2f}" if row["cpu_ms"] else "-"
        lines.append(f"{row['loader']:<24}{rate:<37}{cpu:>13}{row['speedup']['median']:>15.2f}")
    lines += [f"  {row['loader']:<22}{row['what']}" for row in point["rows"]]
    return "\n".join(lines)


def monitor_table(point: dict[str, Any]) -> str:
    """Milliseconds of a step and of an observation, and what the observations take of the run."""
    lines = [
        f"monitor: steps with and without an observation of {point['images']} images, {point['channels']} channels, "
        f"{point['map']} samples, {_threads(point)}",
        f"{'':<12}{'ms':>10}   {'least to greatest':<20}",
    ]
    for row in ("step", "observation"):
        value = point[row]
        lines.append(f"{row:<12}{value['median']:>10.1f}   {value['min']:.1f} to {value['max']:.1f}")
    share = point["share"]
    lines.append(
        f"share       {share['median']:>8.2f} %   {share['min']:.2f} to {share['max']:.2f}, of a run that observes one "
        f"step out of {point['every']}"
    )
    return "\n".join(lines)


def _rate(value: dict[str, float], width: int = 10) -> str:
    return f"{value['median']:>{width}.0f}   {value['min']:.0f} to {value['max']:.0f}"


def _threads(point: dict[str, Any]) -> str:
    return f"{point['threads']} thread{'s' if point['threads'] > 1 else ''}"


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = benchmarking.parser(
        __doc__ or "",
        "python scripts/benchmark_training.py loader --workers 2 --json loader.json",
        repeats=7,
        warmup=1,
    )
    parser.add_argument("topics", nargs="*", metavar="topic", help=f"of {' '.join(TOPICS)} (all)")
    parser.add_argument("--backbone", default="resnet20_cifar", help="loop, monitor (resnet20_cifar)")
    parser.add_argument("--head", default="svd_pade", help="loop, monitor (svd_pade)")
    benchmarking.one_of(parser, "--amp", benchmarking.AMP, "autocast; loop, monitor")
    parser.add_argument("--channels-last", action="store_true", help="memory order; loop, monitor")
    for flag, default, least, text in (
        ("--dim", 64, 1, "channels after the reduction; loop, monitor"),
        ("--images", 256, 1, "files that are generated; loader"),
        ("--workers", 0, 0, "processes of each loader; 0: the processor time is shown too"),
        ("--batch", 64, 2, "images"),
    ):
        text = f"{text} ({default})"
        parser.add_argument(flag, type=benchmarking.whole(least), default=default, metavar="N", help=text)
    text = "side of the images (loop, monitor: 32, loader: 224)"
    parser.add_argument("--size", type=benchmarking.whole(1), metavar="N", help=text)
    arguments = parser.parse_intermixed_args(argv)
    for topic in arguments.topics:
        if topic not in TOPICS:
            raise UnknownNameError("topic", topic, TOPICS)
    threads = torch.get_num_threads()
    environment = benchmarking.describe_environment(arguments.device)
    result: dict[str, Any] = {"settings": benchmarking.settings_of(arguments), "environment": environment}
    print(
        f"machine    {benchmarking.machine(arguments.device)}\n"
        f"figures    medians of {arguments.repeats} rounds in which "
        f"the rows take turns, after {arguments.warmup} of warm-up, with least and greatest"
    )
    for topic in dict.fromkeys(arguments.topics or TOPICS):
        measure, table = TOPICS[topic]
        set_threads(arguments.threads or (1 if topic == "loader" else threads))
        result[topic] = {"threads": torch.get_num_threads(), **measure(arguments)}
        print(f"\n{table(result[topic])}", flush=True)
    set_threads(threads)
    benchmarking.save(arguments.json, result)
    return 0


def _workload(arguments: argparse.Namespace) -> Workload:
    same = {name: getattr(arguments, name) for name in ("backbone", "head", "dim", "amp", "channels_last", "device")}
    return Workload(batch_size=arguments.batch, image_size=arguments.size or 32, seed=arguments.seed, **same)


def _loop(arguments: argparse.Namespace) -> dict[str, Any]:
    return compare_loops(_workload(arguments), arguments.repeats, arguments.warmup, benchmarking.bar("loop, rounds"))


def _monitor(arguments: argparse.Namespace) -> dict[str, Any]:
    from gcp.callbacks.monitor.section import Monitor as MonitorSection

    every = int(MonitorSection().every.amount)
    return measure_monitor(
        every, _workload(arguments), arguments.repeats, arguments.warmup, benchmarking.bar("monitor, rounds")
    )


def _loader(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="gcp-benchmark-") as folder:
        write_photographs(Path(folder), arguments.images)
        return compare_loaders(
            Path(folder),
            arguments.batch,
            arguments.size or 224,
            arguments.workers,
            arguments.repeats,
            arguments.warmup,
            watch=benchmarking.bar("loader, rounds"),
        )


TOPICS = {"loop": (_loop, loop_table), "loader": (_loader, loader_table), "monitor": (_monitor, monitor_table)}

if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
