"""A training step with each head against average pooling: images per second, memory, the head's own part.

Average pooling of d channels feeds a classifier of d columns, a covariance head one of d(d+1)/2. To compare the heads
and not the classifiers, the baseline `wide_average` pads its d means with zeros to the same width.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import benchmarking
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcp.engine.device import autocast, create_scaler
from gcp.heads import HEADS, Head, head_options
from gcp.kernels import use_eigensolver
from gcp.kernels.cpu import set_threads
from gcp.kernels.triangle import triangle_size
from gcp.measure import peak_bytes, spread, take_turns, timed
from gcp.models import create_model
from gcp.models.classifier import Classifier
from gcp.studies.fidelity.methods import select_heads

MIB = 2**20
BASELINES = ("average", "wide_average")


class WideAverage(Head):
    """The mean over positions, padded with zeros to the width d(d+1)/2 of a covariance head."""

    def __init__(self, in_channels: int, dim: int | None = None):
        super().__init__(in_channels, dim)

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        return triangle_size(channels)

    def pool(self, x: Tensor) -> Tensor:
        return F.pad(x.mean((2, 3)).float(), (0, self.out_features - x.shape[1]))


@dataclass(frozen=True)
class StepSetting:
    """What a step is made of; `image_size` and `last_stride` give the map."""

    backbone: str = "resnet50"
    dim: int | None = 256
    num_classes: int = 1000
    image_size: int = 224
    last_stride: int | None = None
    batch: int = 64
    amp: str = "none"
    channels_last: bool = False
    compile: bool = False


def build(head: str, setting: StepSetting, device: torch.device, seed: int, options: dict[str, Any]) -> Classifier:
    """The model of one row, in training mode."""
    torch.manual_seed(seed)
    wide = head == "wide_average"
    name = "average" if wide else head
    takes = (*HEADS[name].obj.takes, *head_options(name))
    own = {key: value for key, value in options.items() if key in takes and value is not None}
    shared: dict[str, Any] = {"num_classes": setting.num_classes, "dim": setting.dim}
    model = create_model(setting.backbone, head=name, last_stride=setting.last_stride, **shared, **own)
    if wide:
        model.head = WideAverage(model.features.channels, setting.dim)
        model.classifier = nn.Linear(model.head.out_features, setting.num_classes)
    order = torch.channels_last if setting.channels_last else torch.contiguous_format
    return model.train().to(device, memory_format=order)  # type: ignore[call-overload]


class TrainingStep:
    """A model with its optimizer and one batch."""

    def __init__(self, model: Classifier, setting: StepSetting, device: torch.device, seed: int):
        generator = torch.Generator().manual_seed(seed)
        shape = (setting.batch, 3, setting.image_size, setting.image_size)
        images = torch.randn(shape, generator=generator)
        order = torch.channels_last if setting.channels_last else torch.contiguous_format
        self.images = images.to(device, memory_format=order)
        self.labels = torch.randint(setting.num_classes, (setting.batch,), generator=generator).to(device)
        self.device, self.amp = device, setting.amp
        self.model = model
        self.run = torch.compile(model) if setting.compile else model
        self.optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
        self.scaler = create_scaler(device, setting.amp)

    def __call__(self) -> None:
        """Forward, loss, backward, update."""
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.amp):
            logits = self.run(self.images)
        self.scaler.scale(F.cross_entropy(logits.float(), self.labels)).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def head_alone(self) -> Callable[[], None]:
        """A call of the head's forward and backward on the feature map of the batch, its reduction included."""
        with torch.no_grad(), autocast(self.device, self.amp):
            features = self.model.features(self.images)
        features = features.detach().requires_grad_()

        def call() -> None:
            with autocast(self.device, self.amp):
                out = self.model.head(features)
            torch.autograd.grad(out.sum(), features)

        self.map = features.shape[2]
        return call


def compare_steps(
    heads: list[str],
    setting: StepSetting,
    device: torch.device | str = "cpu",
    repeats: int = 20,
    warmup: int = 5,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    watch: Callable[[range], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Measure training steps in turns, the baselines among them.

    Returns:
        Plain values: `map` (side of the feature map) and `rows` with `head`, `images_per_second`, `step_ms`, `head_ms`
        (forward and backward with the reduction), `share` (head_ms over step_ms), `peak_mib` (of a step, weights and
        batch aside), and `of_average`, `of_wide_average`: the step time over that of the baseline.
    """
    device = torch.device(device)
    steps: dict[str, TrainingStep] = {}
    for name in dict.fromkeys((*BASELINES, *heads)):
        steps[name] = TrainingStep(build(name, setting, device, seed, options or {}), setting, device, seed)
    alone = {name: step.head_alone() for name, step in steps.items()}
    for step in steps.values():
        step()  # makes the optimizer's state and the libraries' workspaces
    peaks = {name: peak_bytes(step, device) / MIB for name, step in steps.items()}

    def lap(name: str) -> dict[str, float]:
        return {"step": timed(steps[name], device)[1], "head": timed(alone[name], device)[1]}

    times = take_turns({name: lambda name=name: lap(name) for name in steps}, warmup, repeats, watch)  # type: ignore
    step_ms = {name: spread(measured["step"]) for name, measured in times.items()}
    rows = []
    for name, measured in times.items():
        median, head = step_ms[name]["median"], spread(measured["head"])
        row = {"head": name, "step_ms": step_ms[name], "head_ms": head, "peak_mib": peaks[name]}
        row |= {"images_per_second": 1000 * setting.batch / median, "share": head["median"] / median}
        row |= {f"of_{base}": median / step_ms[base]["median"] for base in BASELINES}
        rows.append(row)
    return {"map": steps[BASELINES[0]].map, "rows": rows}


COLUMNS = {"images/s": 10, "step ms": 9, "head ms": 9, "share": 8, "peak MiB": 10, "/average": 10, "/wide_average": 15}


def table(result: dict[str, Any]) -> str:
    """The rows, and what the columns mean."""
    lines = [f"map {result['map']}x{result['map']}", f"{'head':<17}" + "".join(f"{c:>{w}}" for c, w in COLUMNS.items())]
    for row in result["rows"]:
        cells = [
            f"{row['images_per_second']:.1f}",
            f"{row['step_ms']['median']:.1f}",
            f"{row['head_ms']['median']:.2f}",
        ]
        cells += [f"{100 * row['share']:.1f} %", f"{row['peak_mib']:.0f}"]
        cells += [f"{row['of_average']:.3f}", f"{row['of_wide_average']:.3f}"]
        pairs = zip(cells, COLUMNS.values(), strict=True)
        lines.append(f"{row['head']:<17}" + "".join(f"{cell:>{width}}" for cell, width in pairs))
    lines.append("medians; head: forward and backward of reduction and head alone, share: of the step; peak: of a step")
    lines.append("besides weights and batch; /average, /wide_average: step time over that of the baseline, same rounds")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = benchmarking.parser(
        "A training step with each head: images per second, peak memory and the head's share, against average pooling\n"
        "with the same reduction (average) and with a classifier as wide as a covariance head's (wide_average).",
        "python scripts/benchmark_step.py --device cuda --amp bf16 --channels-last --batch 128",
        repeats=20,
        warmup=5,
    )
    heads = ["svd_pade", "newton_schulz", "polar_express"]
    text = f"{benchmarking.HEADS} ({' '.join(heads)})"
    parser.add_argument("--heads", nargs="+", metavar="NAME", default=heads, help=text)
    parser.add_argument(
        "--backbone", default="resnet50", metavar="NAME", help="any name of gcp.create_model (resnet50)"
    )
    for flag, default, text in (
        ("--dim", 256, "channels after the reduction"),
        ("--classes", 1000, "of the classifier"),
        ("--image-size", 224, "side of the images"),
        ("--batch", 64, "images of a step"),
    ):
        parser.add_argument(flag, type=benchmarking.whole(1), default=default, metavar="N", help=f"{text} ({default})")
    text = "1 keeps the last stage at twice the map"
    parser.add_argument("--last-stride", type=benchmarking.whole(1), metavar="N", help=text)
    benchmarking.one_of(parser, "--amp", benchmarking.AMP, "autocast")
    parser.add_argument("--channels-last", action="store_true", help="memory order")
    parser.add_argument("--compile", action="store_true", help="torch.compile of the model")
    benchmarking.one_of(parser, "--precision", benchmarking.PRECISIONS, "for the heads that take it")
    benchmarking.one_of(parser, "--products", benchmarking.PRODUCTS, "for the heads that take it")
    benchmarking.one_of(parser, "--eigensolver", benchmarking.SOLVERS, "which library decomposes on CUDA")
    arguments = parser.parse_args(argv)
    if arguments.threads is not None:
        set_threads(arguments.threads)
    setting = StepSetting(
        backbone=arguments.backbone,
        dim=arguments.dim,
        num_classes=arguments.classes,
        image_size=arguments.image_size,
        last_stride=arguments.last_stride,
        batch=arguments.batch,
        amp=arguments.amp,
        channels_last=arguments.channels_last,
        compile=arguments.compile,
    )
    precision = None if arguments.precision == "default" else arguments.precision
    options = {"precision": precision, "products": arguments.products}
    selected = select_heads(arguments.heads)
    print(f"{benchmarking.machine(arguments.device)}; {asdict(setting)}", flush=True)
    with use_eigensolver(arguments.eigensolver):
        result = compare_steps(
            selected,
            setting,
            arguments.device,
            arguments.repeats,
            arguments.warmup,
            arguments.seed,
            options,
            watch=benchmarking.bar(),
        )
    print(table(result))
    about = {"setting": asdict(setting), "options": options}
    about["environment"] = benchmarking.describe_environment(arguments.device)
    benchmarking.save(arguments.json, {**about, **result})
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
