"""`python scripts/benchmark_heads.py [--heads NAME ...] [--map N ...] ...`."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from gcp.cli.arguments import parse
from gcp.errors import GCPError, OptionError, UnknownNameError

MANY = 1000
FLAGS = {
    **dict.fromkeys(("--heads", "--batch", "--dim", "--map"), (1, MANY)),
    **dict.fromkeys(("--dtype", "--side", "--precision", "--device", "--json"), (1, 1)),
    **dict.fromkeys(("--repeats", "--warmup", "--threads", "--seed"), (1, 1)),
    **dict.fromkeys(("--baseline", "--help"), (0, 0)),
}
DTYPES = ("float32", "float64", "bfloat16", "float16")
PRECISIONS = ("default", "float32", "float64")

USAGE = f"""\
Time, memory and error of pooling heads: one table for each feature map (batch, dim, map, map).

  python scripts/benchmark_heads.py [flags]

  --heads NAME ...   heads by name or shell pattern ('svd_*'); default: every head that takes a matrix root
  --batch N ...      16       --dim N ...  256       --map N ...  7 14 28
  --dtype            {"|".join(DTYPES)}: of the features (float32)
  --side             auto|channel|sample, for the heads that take it (auto)
  --precision        {"|".join(PRECISIONS)}: of the computation, for the heads that take it (their default)
  --device           cpu, cuda, cuda:1 ... (cpu)
  --repeats N        timed rounds, of which the median is shown (7)      --warmup N  rounds before them (2)
  --baseline         also the published form of each rule on the channel side, and every figure as a ratio
                     to it (svd_original for the heads that have no published form)
  --json FILE        everything, with least and greatest times, versions and the command line
  --threads N        of the processor       --seed N  of the features (0)

Example:
  python scripts/benchmark_heads.py --heads svd_pade newton_schulz polar_express --map 7 14 --baseline
"""

Flags = dict[str, list[str]]


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    if argv and not argv[0].startswith("-"):
        raise GCPError(f"unexpected {argv[0]!r}: heads are given as --heads {argv[0]}; see --help.")
    arguments = parse(argv, FLAGS)
    if arguments.overrides:
        raise GCPError(f"unexpected {arguments.overrides[0]!r}: this command takes flags only; see --help.")
    flags = arguments.flags
    if "--help" in flags:
        print(USAGE)
        return 0
    return _measure(flags)


def _measure(flags: Flags) -> int:
    settings = read_settings(flags)
    import torch
    from tqdm import tqdm

    from gcp.analysis.benchmark import Shape, Variant, compare, root_heads, select_heads
    from gcp.cli.benchmark_table import describe, header, table
    from gcp.engine.environment import describe_environment

    if settings["threads"] is not None:
        torch.set_num_threads(settings["threads"])
    heads = select_heads(settings["heads"]) if settings["heads"] else root_heads()
    device = find_device(settings["device"])
    variants = [Variant(head, settings["side"], None, settings["precision"]) for head in heads]
    settings["heads"] = heads
    environment = describe_environment(device)
    notes = describe(settings, environment)
    print(header(notes))
    points: list[dict[str, Any]] = []
    for shape in (Shape(*sizes) for sizes in product(settings["batch"], settings["dim"], settings["map"])):
        point = compare(
            variants,
            shape,
            getattr(torch, settings["dtype"]),
            device,
            settings["repeats"],
            settings["warmup"],
            settings["seed"],
            settings["baseline"],
            watch=lambda turns: tqdm(turns, desc="rounds", leave=False, disable=None),
        )
        points.append(point)
        print(f"\n{table(point)}", flush=True)
    if settings["json"] is not None:
        from gcp.engine.files import write_json

        result = {"settings": settings, "environment": environment, "notes": notes, "points": points}
        write_json(settings["json"], result)
    return 0


def read_settings(flags: Flags) -> dict[str, Any]:
    """Flags as plain values with their defaults.

    Raises:
        OptionError: a value outside what is allowed.
        UnknownNameError: not one of the names that a flag takes.
    """
    precision = _choice(flags, "--precision", PRECISIONS)
    return {
        "heads": flags.get("--heads"),
        "batch": _numbers(flags, "--batch", [16], 1),
        "dim": _numbers(flags, "--dim", [256], 1),
        "map": _numbers(flags, "--map", [7, 14, 28], 1),
        "dtype": _choice(flags, "--dtype", DTYPES),
        "side": _choice(flags, "--side", ("auto", "channel", "sample")),
        "precision": None if precision == "default" else precision,
        "device": flags.get("--device", ["cpu"])[0],
        "repeats": _numbers(flags, "--repeats", [7], 1)[0],
        "warmup": _numbers(flags, "--warmup", [2], 0)[0],
        "baseline": "--baseline" in flags,
        "json": _target(flags.get("--json", [None])[0]),
        "threads": _numbers(flags, "--threads", [1], 1)[0] if "--threads" in flags else None,
        "seed": _numbers(flags, "--seed", [0], 0)[0],
    }


def find_device(name: str) -> Any:
    """The torch device of that name.

    Raises:
        OptionError: no such device, or a GPU that is not there.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise OptionError(f"--device is {name!r}; allowed: cpu, cuda, cuda:0, cuda:1 and so on.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise OptionError(f"--device is {name}, but {found or 'no'} GPU is available. Type --device cpu.")
    return device


def _numbers(flags: Flags, flag: str, default: list[int], least: int) -> list[int]:
    words = flags.get(flag)
    if words is None:
        return default
    for word in words:
        if not (word.isascii() and word.isdigit() and int(word) >= least):
            raise OptionError(f"{flag} is {word!r}; allowed: a whole number >= {least}.")
    return [int(word) for word in words]


def _choice(flags: Flags, flag: str, allowed: Sequence[str]) -> str:
    """The value of a flag; its default is the first allowed one."""
    value = flags.get(flag, [allowed[0]])[0]
    if value not in allowed:
        raise UnknownNameError(flag.lstrip("-"), value, allowed)
    return value


def _target(path: str | None) -> str | None:
    """Refuse a file that cannot be written before minutes are spent on what should go into it."""
    if path is not None and (Path(path).is_dir() or not Path(path).resolve().parent.is_dir()):
        raise OptionError(f"--json {path}: not a file in a folder that exists.")
    return path
