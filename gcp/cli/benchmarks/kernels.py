"""`python scripts/benchmark_kernels.py [--device cuda] [--only solvers|kernels|goals] ...`."""

from collections.abc import Iterable
from typing import Any

from gcp.cli.benchmarks.command import common, read, save, takes
from gcp.cli.flags import choice, find_device, numbers

PARTS = ("all", "solvers", "kernels", "goals")
FLAGS = takes(("--sizes", "--batches"), ("--only", "--dim", "--batch", "--map"))

USAGE = f"""\
The GPU path by numbers: the eigensolvers against each other, each kernel against its torch twin, and the goals.

  python scripts/benchmark_kernels.py [flags]

  --device           cuda, cuda:1 ... (cuda); cpu for --only solvers
  --only             {"|".join(PARTS)} (all)
  --sizes N ...      rows of the matrices to decompose (32 49 64 128 196 256)     --batches N ...  (10 64 128 256)
  --dim N            256      --batch N  128      --map N  28    of the kernels and the goals (map 7: sample side)
  --repeats N        timed rounds, of which the median is shown (20)              --warmup N  rounds before them (3)
  --json FILE        everything
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    flags = read(argv, FLAGS, USAGE)
    if flags is None:
        return 0
    only, settings = choice(flags, "--only", PARTS), common(flags, repeats=20, warmup=3)
    repeats, warmup = settings["repeats"], settings["warmup"]
    sizes = numbers(flags, "--sizes", [32, 49, 64, 128, 196, 256], 1)
    batches = numbers(flags, "--batches", [10, 64, 128, 256], 1)
    d, batch, side = (numbers(flags, f"--{k}", [v], 2)[0] for k, v in (("dim", 256), ("batch", 128), ("map", 28)))
    import torch

    from gcp.analysis.benchmarks.kernels import compare_kernels, compare_solvers, goals, need_gpu
    from gcp.engine.environment import describe_environment
    from gcp.kernels.launch import available

    device = find_device(flags.get("--device", ["cuda"])[0])
    if only != "solvers":
        need_gpu(device)
    environment = describe_environment(device)
    kernels = "kernels by CuPy" if device.type == "cuda" and available() else "torch twins"
    where = environment["device"] if device.type == "cuda" else environment["processor"]
    print(f"{where}, torch {torch.__version__}, CUDA {torch.version.cuda}, {kernels}", flush=True)
    result: dict[str, Any] = {"environment": environment, "kernels": kernels}
    if only in ("all", "solvers"):
        result["solvers"] = show(compare_solvers(sizes, batches, device, repeats, warmup), solver_line)
    if only in ("all", "kernels"):
        result["twins"] = show(compare_kernels(d, batch, device, repeats, warmup), kernel_line)
    if only in ("all", "goals"):
        result["goals"] = show(goals(side, d, batch, device, repeats, warmup), goal_line)
    save(settings["json"], result)
    return 0


def show(rows: Iterable[dict[str, Any]], line: Any) -> list[dict[str, Any]]:
    """Print each row of a table as it is measured, and hand all of them on."""
    print()
    shown = []
    for row in rows:
        print(line(row), flush=True)
        shown.append(row)
    return shown


def solver_line(row: dict[str, Any]) -> str:
    """One decomposition."""
    return (
        f"{row['n']:>4} x{row['batch']:<4} {row['dtype']:<8} {row['spectrum']:<9} {row['route']:<9}"
        f"{row['ms']['median']:>10.3f} ms   residual {row['residual']:.1e}   orthogonality "
        f"{row['orthogonality']:.1e}   peak {row['peak_mib']:.0f} MiB"
    )


def kernel_line(row: dict[str, Any]) -> str:
    """One kernel and its twin."""
    return (
        f"{row['kernel']:<30} {row['dtype']:<8}{row['us']:>9.0f} us{row['gb_per_s']:>8.0f} GB/s   twin "
        f"{row['twin_us']:>7.0f} us, {row['twin_us'] / row['us']:.1f} times as long; "
        f"memory {row['peak_of_twin']:.2f} of its"
    )


def goal_line(row: dict[str, Any]) -> str:
    """One goal."""
    least, most = row.get("at_least"), row.get("at_most")
    reached = row["value"] >= least if least is not None else row["value"] <= most
    goal = f"at least {least}" if least is not None else f"at most {most}"
    return f"{row['what']:<52}{row['value']:>9.2f}   goal: {goal:<13} {'reached' if reached else 'MISSED'}"
