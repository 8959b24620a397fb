"""What the benchmarks share: flags, rounds that take turns, the machine they ran on, a file with everything."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler measures memory, and talks about itself
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works in a checkout that is not installed

import torch

from gcp.engine.environment import describe_environment
from gcp.engine.folder import write_json
from gcp.errors import counted
from gcp.measure import timed

HEADS = "heads by name or shell pattern, such as 'svd_*'"
PRECISIONS = ("default", "float32", "float64")
PRODUCTS = ("full", "tf32", "bf16")
SOLVERS = ("auto", "torch", "cusolver", "cupy")
AMP = ("none", "bf16", "fp16")


def parser(description: str, example: str, repeats: int, warmup: int, device: str = "cpu") -> argparse.ArgumentParser:
    """A parser with the flags of every benchmark: device, repeats, warmup, json, threads and seed."""
    made = argparse.ArgumentParser(
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--device", type=device_of, default=device, help=f"cpu, cuda, cuda:1 ... ({device})")
    made.add_argument("--repeats", type=whole(1), default=repeats, help=f"timed rounds; medians are shown ({repeats})")
    made.add_argument("--warmup", type=whole(0), default=warmup, help=f"rounds before them ({warmup})")
    made.add_argument("--json", type=target, metavar="FILE", help="everything, with least and greatest times")
    made.add_argument("--threads", type=whole(1), help="of the processor")
    made.add_argument("--seed", type=whole(0), default=0, help="of weights and images (0)")
    return made


def whole(least: int) -> Callable[[str], int]:
    """The type of a flag that takes a whole number of at least `least`."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a whole number >= {least}")
        return int(text)

    return number


def several(made: argparse.ArgumentParser, flag: str, default: list[int] | None, text: str) -> None:
    """Add a flag that takes whole numbers >= 1."""
    shown = " ".join(map(str, default or [])) or "none"
    made.add_argument(flag, type=whole(1), nargs="+", default=default, metavar="N", help=f"{text} ({shown})")


def one_of(made: argparse.ArgumentParser, flag: str, allowed: Iterable[str], text: str) -> None:
    """Add a flag that takes one of some words, by default the first."""
    words = list(allowed)
    made.add_argument(flag, choices=words, default=words[0], help=f"{text} ({words[0]})")


def device_of(name: str) -> torch.device:
    """The torch device of that name; refuses a GPU that is not there."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"got {name!r}; allowed: cpu, cuda, cuda:0, cuda:1 and so on")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(f"{name}: {torch.cuda.device_count() or 'no'} GPU is available; type cpu")
    return device


def target(path: str) -> str:
    """A file to write. Refuses one that cannot be written before minutes are spent on what should go into it."""
    if Path(path).is_dir() or not Path(path).resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: not a file in a folder that exists")
    return path


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Flags as plain values, for the file of --json."""
    return {key: str(value) if isinstance(value, torch.device) else value for key, value in vars(arguments).items()}


def bar(text: str = "rounds") -> Callable[[Iterable[int]], Iterable[int]]:
    """What shows on a terminal how far the rounds are."""
    from tqdm import tqdm

    return partial(tqdm, desc=text, leave=False, disable=None)


def save(path: str | None, result: Mapping[str, Any]) -> None:
    """Write the file of --json, where there is one."""
    if path is not None:
        write_json(path, dict(result))


def machine(device: torch.device) -> str:
    """GPU, where it is one, processor, threads and torch."""
    about = describe_environment(device)
    on = "" if about["device"] == "cpu" else f"{about['device']}, "
    return f"{on}{about['processor']}, {counted(about['threads'], 'thread')}, torch {about['packages']['torch']}"


def heading(arguments: argparse.Namespace, rows: str, columns: str) -> str:
    """Machine and meaning of the columns, above tables whose `rows` took turns; `columns` says the rest of it."""
    alone = torch.get_num_threads() == 1 and arguments.device.type == "cpu"
    clock = "processor time" if alone else "elapsed time"
    return (
        f"machine   {machine(arguments.device)}\n"
        f"columns   medians of {counted(arguments.repeats, 'round')} in which the {rows} take turns, ms of {clock}; "
        f"{columns}"
    )


def clocked(function: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """The result of a call and its milliseconds.

    With one thread on the CPU they are of processor time, which others on the machine do not lengthen; else of `timed`.
    """
    if device.type != "cpu" or torch.get_num_threads() > 1:
        return timed(function, device)
    start = time.process_time_ns()
    result = function()
    return result, (time.process_time_ns() - start) / 1e6


def lap(call: Callable[[], Any], device: torch.device, ahead: bool = False) -> Callable[[], dict[str, float]]:
    """A call for `gcp.measure.take_turns`, which measures its milliseconds as `ms`."""
    return lambda: {"ms": timed(call, device, ahead)[1]}


def run(main: Callable[[list[str]], int]) -> int:
    """The exit code of a command: 2, with one line on stderr, where the user has typed what cannot be."""
    from gcp.cli.main import run as run_command

    return run_command(main)
