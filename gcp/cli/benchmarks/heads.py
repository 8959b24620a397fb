"""`python scripts/benchmark_heads.py [--heads NAME ...] [--map N ...] ...`."""

from itertools import product
from typing import Any

from gcp.cli.benchmarks.command import bar, common, optional, read, save, takes
from gcp.cli.flags import Flags, choice, find_device, numbers, target

FLAGS = takes(
    ("--heads", "--batch", "--dim", "--map"),
    ("--dtype", "--side", "--precision", "--products", "--eigensolver", "--plot", "--threads", "--seed"),
    ["--baseline"],
)
DTYPES = ("float32", "float64", "bfloat16", "float16")
PRECISIONS = ("default", "float32", "float64")
PRODUCTS = ("full", "tf32", "bf16")
SOLVERS = ("auto", "torch", "cusolver", "cupy")

USAGE = f"""\
Time, memory and error of pooling heads: one table for each feature map (batch, dim, map, map).

  python scripts/benchmark_heads.py [flags]

  --heads NAME ...   heads by name or shell pattern ('svd_*'); default: every head that takes a matrix root
  --batch N ...      16       --dim N ...  256       --map N ...  7 14 28
  --dtype            {"|".join(DTYPES)}: of the features (float32)
  --side             auto|channel|sample, for the heads that take it (auto)
  --precision        {"|".join(PRECISIONS)}: of the computation, for the heads that take it (their default)
  --products         {"|".join(PRODUCTS)}: rounding inside the iterations, for the heads that take it (full)
  --device           cpu, cuda, cuda:1 ... (cpu)
  --eigensolver      {"|".join(SOLVERS)}: which library decomposes on CUDA (auto)
  --repeats N        timed rounds, of which the median is shown (7)      --warmup N  rounds before them (2)
  --baseline         also the published form of each rule on the channel side, and every figure as a ratio
                     to it (svd_original for the heads that have no published form)
  --json FILE        everything, with least and greatest times, versions and the command line
  --plot FILE        the times as an image (png, svg, pdf)
  --threads N        of the processor       --seed N  of the features (0)

Example:
  python scripts/benchmark_heads.py --heads svd_pade newton_schulz polar_express --map 7 14 --baseline
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    flags = read(argv, FLAGS, USAGE, word="--heads")
    return 0 if flags is None else _measure(flags)


def _measure(flags: Flags) -> int:
    settings = read_settings(flags)
    import torch

    from gcp.analysis.benchmarks.heads import Shape, Variant, compare
    from gcp.cli.benchmarks.heads_table import describe, header, table
    from gcp.engine.environment import describe_environment
    from gcp.kernels import use_eigensolver
    from gcp.studies.fidelity.methods import root_heads, select_heads

    if settings["threads"] is not None:
        torch.set_num_threads(settings["threads"])
    heads = select_heads(settings["heads"]) if settings["heads"] else root_heads()
    device = find_device(settings["device"])
    wanted = settings["side"], None, settings["precision"], settings["products"]
    variants = [Variant(head, *wanted) for head in heads]
    settings["heads"] = heads
    environment = describe_environment(device)
    notes = describe(settings, environment)
    print(header(notes))
    points: list[dict[str, Any]] = []
    for shape in (Shape(*sizes) for sizes in product(settings["batch"], settings["dim"], settings["map"])):
        with use_eigensolver(settings["eigensolver"]):
            point = compare(
                variants,
                shape,
                getattr(torch, settings["dtype"]),
                device,
                settings["repeats"],
                settings["warmup"],
                settings["seed"],
                settings["baseline"],
                watch=bar(),
            )
        points.append(point)
        print(f"\n{table(point)}", flush=True)
    save(settings["json"], {"settings": settings, "environment": environment, "notes": notes, "points": points})
    if settings["plot"] is not None:
        from gcp.analysis.benchmarks.heads_plot import plot

        plot(points, notes["machine"], settings["plot"])
    return 0


def read_settings(flags: Flags) -> dict[str, Any]:
    """Flags as plain values with their defaults.

    Raises:
        OptionError: a value outside what is allowed.
        UnknownNameError: not one of the names that a flag takes.
    """
    precision = choice(flags, "--precision", PRECISIONS)
    return {
        "heads": flags.get("--heads"),
        "batch": numbers(flags, "--batch", [16], 1),
        "dim": numbers(flags, "--dim", [256], 1),
        "map": numbers(flags, "--map", [7, 14, 28], 1),
        "dtype": choice(flags, "--dtype", DTYPES),
        "side": choice(flags, "--side", ("auto", "channel", "sample")),
        "precision": None if precision == "default" else precision,
        "products": choice(flags, "--products", PRODUCTS),
        "eigensolver": choice(flags, "--eigensolver", SOLVERS),
        "baseline": "--baseline" in flags,
        "plot": target(flags.get("--plot", [None])[0], "--plot"),
        "threads": optional(flags, "--threads"),
        "seed": numbers(flags, "--seed", [0], 0)[0],
        **common(flags, repeats=7, warmup=2),
    }
