"""`python scripts/benchmark_step.py [--heads NAME ...] [--backbone NAME] ...`."""

from dataclasses import asdict
from typing import Any

from gcp.cli.arguments import parse
from gcp.cli.benchmarks.heads import PRECISIONS, PRODUCTS, SOLVERS
from gcp.cli.flags import choice, find_device, numbers, target
from gcp.errors import GCPError

MANY = 1000
SINGLE = (
    *("--backbone", "--dim", "--classes", "--image-size", "--last-stride", "--batch", "--amp", "--precision"),
    *("--products", "--device", "--eigensolver", "--repeats", "--warmup", "--seed", "--json"),
)
FLAGS = {
    "--heads": (1, MANY),
    **dict.fromkeys(SINGLE, (1, 1)),
    **dict.fromkeys(("--channels-last", "--compile", "--help"), (0, 0)),
}
AMP = ("none", "bf16", "fp16")

USAGE = f"""\
A training step with each head: images per second, peak memory and the head's share, against average pooling with
the same reduction (average) and with a classifier as wide as that of a covariance head (wide_average), in one run.

  python scripts/benchmark_step.py [flags]

  --heads NAME ...   heads by name or shell pattern (svd_pade newton_schulz polar_express)
  --backbone NAME    resnet50        --dim N  channels after the reduction (256)     --classes N  1000
  --image-size N     224             --last-stride 1  keeps the last stage at twice the map
  --batch N          64              --amp {"|".join(AMP)}
  --channels-last    memory order    --compile  torch.compile of the model
  --precision        {"|".join(PRECISIONS)}, and --products {"|".join(PRODUCTS)}, for the heads that take them
  --device           cpu, cuda, cuda:1 ... (cpu)
  --eigensolver      {"|".join(SOLVERS)}: on CUDA (auto)
  --repeats N        timed rounds, of which the median is shown (20)      --warmup N  rounds before them (5)
  --seed N           of weights and batch (0)                            --json FILE  everything

Examples:
  python scripts/benchmark_step.py --device cuda --amp bf16 --channels-last --batch 128
  python scripts/benchmark_step.py --backbone resnet18 --dim 64 --image-size 64 --batch 8 --repeats 5
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    if argv and not argv[0].startswith("-"):
        raise GCPError(f"unexpected {argv[0]!r}: heads are given as --heads {argv[0]}; see --help.")
    arguments = parse(argv, FLAGS)
    if arguments.overrides:
        raise GCPError(f"unexpected {arguments.overrides[0]!r}: this command takes flags only; see --help.")
    if "--help" in arguments.flags:
        print(USAGE)
        return 0
    return _measure(arguments.flags)


def _measure(flags: dict[str, list[str]]) -> int:
    single = {key: numbers(flags, f"--{key}", [value], 1)[0] for key, value in NUMBERS.items()}
    precision = choice(flags, "--precision", PRECISIONS)
    products = choice(flags, "--products", PRODUCTS)
    amp, solver = choice(flags, "--amp", AMP), choice(flags, "--eigensolver", SOLVERS)
    warmup, seed = numbers(flags, "--warmup", [5], 0)[0], numbers(flags, "--seed", [0], 0)[0]
    path = target(flags.get("--json", [None])[0])
    import torch
    from tqdm import tqdm

    from gcp.analysis.benchmark import select_heads
    from gcp.analysis.step import Setting, compare_steps
    from gcp.engine.environment import describe_environment
    from gcp.engine.files import write_json
    from gcp.kernels import use_eigensolver

    device = find_device(flags.get("--device", ["cpu"])[0])
    setting = Setting(
        backbone=flags.get("--backbone", ["resnet50"])[0],
        dim=single["dim"],
        num_classes=single["classes"],
        image_size=single["image-size"],
        last_stride=numbers(flags, "--last-stride", [1], 1)[0] if "--last-stride" in flags else None,
        batch=single["batch"],
        amp=amp,
        channels_last="--channels-last" in flags,
        compile="--compile" in flags,
    )
    options = {"precision": None if precision == "default" else precision, "products": products}
    heads = select_heads(flags.get("--heads", ["svd_pade", "newton_schulz", "polar_express"]))
    environment = describe_environment(device)
    where = environment["processor"] if device.type == "cpu" else environment["device"]
    print(f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}; {asdict(setting)}", flush=True)
    with use_eigensolver(solver):
        result = compare_steps(
            heads,
            setting,
            device,
            single["repeats"],
            warmup,
            seed,
            options,
            watch=lambda turns: tqdm(turns, desc="rounds", leave=False, disable=None),
        )
    print(table(result))
    if path is not None:
        write_json(path, {"setting": asdict(setting), "options": options, "environment": environment, **result})
    return 0


NUMBERS = {"dim": 256, "classes": 1000, "image-size": 224, "batch": 64, "repeats": 20}
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
