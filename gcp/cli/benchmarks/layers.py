"""`python scripts/benchmark_layers.py [--tasks NAME ...] [--dim N ...] ...`."""

from typing import Any

from gcp.cli.benchmarks.command import bar, common, heading, read, save, takes
from gcp.cli.flags import Flags, find_device, numbers, target
from gcp.errors import UnknownNameError

TASKS = ("apply", "build", "logdet", "spectral")
FLAGS = takes(("--tasks", "--methods", "--dim", "--columns", "--blocks"), ("--plot", "--threads", "--seed"))

USAGE = """\
Time of orthogonal layers, forward and backward, against what else there is.

  python scripts/benchmark_layers.py [flags]

  --tasks            apply   W X of a square orthogonal W (d, d)
                     build   a weight (d / 8, d) with orthonormal rows
                     logdet  log |det W| and W^(-1) Y of a square W (d, d)
                     spectral  W X with the spectral norm kept, and the greatest and last true norm (over what was
                             promised) of 200 hard steps                             (all four)
  --methods NAME ... gcp gcp_rebuild sequential householder_product torch_householder torch_cayley
                     torch_matrix_exp geotorch dense, and of spectral exact power_1 power_5 torch_power_1 svd_box;
                     ours is always there, of spectral `bound`                       (all that are installed)
  --dim N ...        64 256 512 1024       --columns N ...  of X and Y (32)
  --blocks N ...     our method also with these numbers of reflectors in a block
  --device           cpu, cuda, cuda:1 ... (cpu)
  --repeats N        timed rounds, of which the median is shown (7)      --warmup N  rounds before them (1)
  --json FILE        everything, with least and greatest times, versions and the command line
  --plot FILE        forward + backward over d, as PNG
  --threads N        of the processor (1: then times are of the processor, not of the clock)
  --seed N           of weights and columns (0)

Example:
  python scripts/benchmark_layers.py --tasks apply --dim 512 784 1024 --plot layers.png
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    flags = read(argv, FLAGS, USAGE)
    return 0 if flags is None else _measure(flags)


def _measure(flags: Flags) -> int:
    settings = read_settings(flags)
    import torch

    from gcp.analysis.benchmarks.layer_methods import METHODS, Place, select
    from gcp.analysis.benchmarks.layers import compare
    from gcp.engine.environment import describe_environment

    known = {name: None for methods in METHODS.values() for name in methods}
    for name in settings["methods"] or []:
        if name not in known:
            raise UnknownNameError("method", name, known)
    torch.set_num_threads(settings["threads"])
    device = find_device(settings["device"])
    environment = describe_environment(device)
    print(heading(settings, environment, "methods", COLUMNS))
    points: list[dict[str, Any]] = []
    for task in settings["tasks"]:
        methods = select(task, settings["methods"])
        for d in settings["dim"]:
            for m in settings["columns"] if task != "build" else settings["columns"][:1]:
                point = compare(
                    task,
                    methods,
                    Place(d, m, device, settings["seed"]),
                    settings["blocks"],
                    settings["repeats"],
                    settings["warmup"],
                    bar(),
                )
                points.append(point)
                print(f"\n{table(point)}", flush=True)
    save(settings["json"], {"settings": settings, "environment": environment, "points": points})
    if settings["plot"] is not None:
        from gcp.analysis.benchmarks.layers_plot import draw_times

        draw_times(points, settings["plot"])
    return 0


def read_settings(flags: Flags) -> dict[str, Any]:
    """Flags as plain values with their defaults.

    Raises:
        OptionError: a value outside what is allowed.
        UnknownNameError: not a task.
    """
    tasks = flags.get("--tasks", list(TASKS))
    for task in tasks:
        if task not in TASKS:
            raise UnknownNameError("task", task, TASKS)
    return {
        "tasks": tasks,
        "methods": flags.get("--methods"),
        "dim": numbers(flags, "--dim", [64, 256, 512, 1024], 1),
        "columns": numbers(flags, "--columns", [32], 1),
        "blocks": numbers(flags, "--blocks", [], 1),
        "threads": numbers(flags, "--threads", [1], 1)[0],
        "seed": numbers(flags, "--seed", [0], 0)[0],
        "plot": target(flags.get("--plot", [None])[0], "--plot"),
        **common(flags, repeats=7, warmup=1),
    }


COLUMNS = "x ours: forward +\n          backward over that of gcp; above 1 gcp is faster"


def table(point: dict[str, Any]) -> str:
    """The times at one size."""
    size = f"({max(point['d'] // 8, 1)}, {point['d']})" if point["task"] == "build" else f"d {point['d']}"
    title = f"{point['task']}, {size}" + ("" if point["task"] == "build" else f", {point['columns']} columns")
    lines = [title, f"{'method':<22}{'forward':>11}{'backward':>11}{'both':>11}{'least':>11}{'x ours':>9}"]
    normed = point["task"] == "spectral"
    lines[-1] += f"{'greatest':>12}{'last norm':>12}" if normed else ""
    for row in point["rows"]:
        times = row["time_ms"]
        cells = [times[phase]["median"] for phase in ("forward", "backward", "both")] + [times["both"]["min"]]
        norms = [f"{row['norm'][key]:>12.6g}" for key in ("greatest", "last")] if normed else []
        line = f"{row['method']:<22}" + "".join(f"{c:>11.2f}" for c in cells) + f"{row['ratio']['both']:>9.2f}"
        lines.append(line + "".join(norms))
    return "\n".join(lines)
