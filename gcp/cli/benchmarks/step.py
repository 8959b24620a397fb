"""`python scripts/benchmark_step.py [--heads NAME ...] [--backbone NAME] ...`."""

from dataclasses import asdict
from typing import Any

from gcp.cli.benchmarks.command import bar, common, optional, read, save, takes
from gcp.cli.benchmarks.heads import PRECISIONS, PRODUCTS, SOLVERS
from gcp.cli.flags import Flags, choice, find_device, numbers

SIZES = {"dim": 256, "classes": 1000, "image-size": 224, "batch": 64}
WORDS = ("--backbone", "--last-stride", "--amp", "--precision", "--products", "--eigensolver", "--seed")
FLAGS = takes(["--heads"], [*(f"--{size}" for size in SIZES), *WORDS], ("--channels-last", "--compile"))
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
    flags = read(argv, FLAGS, USAGE, word="--heads")
    return 0 if flags is None else _measure(flags)


def _measure(flags: Flags) -> int:
    sizes = {size: numbers(flags, f"--{size}", [default], 1)[0] for size, default in SIZES.items()}
    precision = choice(flags, "--precision", PRECISIONS)
    products = choice(flags, "--products", PRODUCTS)
    amp, solver = choice(flags, "--amp", AMP), choice(flags, "--eigensolver", SOLVERS)
    seed, settings = numbers(flags, "--seed", [0], 0)[0], common(flags, repeats=20, warmup=5)
    import torch

    from gcp.analysis.benchmarks.step import Setting, compare_steps
    from gcp.engine.environment import describe_environment
    from gcp.kernels import use_eigensolver
    from gcp.studies.fidelity.methods import select_heads

    device = find_device(settings["device"])
    setting = Setting(
        backbone=flags.get("--backbone", ["resnet50"])[0],
        dim=sizes["dim"],
        num_classes=sizes["classes"],
        image_size=sizes["image-size"],
        last_stride=optional(flags, "--last-stride"),
        batch=sizes["batch"],
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
            settings["repeats"],
            settings["warmup"],
            seed,
            options,
            watch=bar(),
        )
    print(table(result))
    about = {"setting": asdict(setting), "options": options, "environment": environment}
    save(settings["json"], {**about, **result})
    return 0


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
