"""`python scripts/benchmark_glow.py [--channels N ...] [--size N] ...`."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from gcp.cli.arguments import parse
from gcp.cli.flags import Flags, find_device, numbers, target
from gcp.errors import GCPError, OptionError, counted

MANY = 1000
SIZES = ("--batch", "--images", "--size", "--levels", "--steps", "--width")
FLAGS = {
    "--channels": (1, MANY),
    **dict.fromkeys((*SIZES, "--device", "--json", "--repeats", "--warmup", "--threads", "--seed"), (1, 1)),
    "--help": (0, 0),
}

USAGE = """\
Time of a step of Glow with plain, PLU and SVD 1x1 convolutions, which take turns in one run.

  python scripts/benchmark_glow.py [flags]

  --channels N ...   of the convolution alone, on maps of a quarter of the size (12 48 192)
  --size N           side of the images of the flow (32)             --images N  their channels (3)
  --levels N         of the flow (3)      --steps N  of a level (4)  --width N   of the couplings (64)
  --batch N          images (16)
  --device           cpu, cuda, cuda:1 ... (cpu)
  --repeats N        timed rounds, of which the median is shown (5)  --warmup N  rounds before them (1)
  --json FILE        everything, with least and greatest times, versions and the command line
  --threads N        of the processor (1: then times are of the processor, not of the clock)
  --seed N           of weights and images (0)

Example:
  python scripts/benchmark_glow.py --device cuda --steps 16 --width 512 --batch 64
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    arguments = parse(argv, FLAGS)
    if arguments.overrides:
        raise GCPError(f"unexpected {arguments.overrides[0]!r}: this command takes flags only; see --help.")
    if "--help" in arguments.flags:
        print(USAGE)
        return 0
    return _measure(arguments.flags)


def _measure(flags: Flags) -> int:
    settings = read_settings(flags)
    import torch
    from tqdm import tqdm

    from gcp.analysis import flow_benchmark as bench
    from gcp.engine.environment import describe_environment
    from gcp.engine.files import write_json

    torch.set_num_threads(settings["threads"])
    device = find_device(settings["device"])
    sizes = {key: settings[key] for key in ("batch", "size", "levels", "steps", "width", "seed")}
    place = bench.Place(channels=settings["images"], device=device, **sizes)
    environment = describe_environment(device)
    print(heading(settings, environment))
    points: list[dict[str, Any]] = []

    def watch(rounds: range) -> Iterable[int]:
        return tqdm(rounds, desc="rounds", leave=False, disable=None)

    def point(title: str, works: dict[str, bench.Work]) -> None:
        rows = bench.compare(works, device, settings["repeats"], settings["warmup"], watch)
        points.append({"what": title, "rows": rows})
        print(f"\n{table(title, rows)}", flush=True)

    for channels in settings["channels"]:
        side = max(place.size // 4, 1)
        title = f"convolution alone, {channels} channels, {place.batch} maps of {side} x {side}"
        point(title, bench.forms_of(partial(bench.convolution, channels=channels, place=place)))
    title = f"flow, {counted(place.levels, 'level')} of {counted(place.steps, 'step')}, width {place.width}, "
    title += f"{place.batch} images of {place.channels} x {place.size} x {place.size}"
    point(title, bench.forms_of(partial(bench.flow, place=place)))
    if settings["json"] is not None:
        write_json(settings["json"], {"settings": settings, "environment": environment, "points": points})
    return 0


def read_settings(flags: Flags) -> dict[str, Any]:
    """Flags as plain values with their defaults.

    Raises:
        OptionError: a value outside what is allowed.
    """
    single = {
        "batch": (16, 1),
        "images": (3, 1),
        "size": (32, 2),
        "levels": (3, 1),
        "steps": (4, 1),
        "width": (64, 1),
        "repeats": (5, 1),
        "warmup": (1, 0),
        "threads": (1, 1),
        "seed": (0, 0),
    }
    settings: dict[str, Any] = {
        key: numbers(flags, f"--{key}", [default], least)[0] for key, (default, least) in single.items()
    }
    if settings["size"] % 2 ** settings["levels"]:
        whole = f"a multiple of {2 ** settings['levels']}, which --levels {settings['levels']} halves as often"
        raise OptionError(f"--size is {settings['size']}; allowed: {whole}.")
    return settings | {
        "channels": numbers(flags, "--channels", [12, 48, 192], 1),
        "device": flags.get("--device", ["cpu"])[0],
        "json": target(flags["--json"][0] if "--json" in flags else None),
    }


def heading(settings: dict[str, Any], environment: dict[str, Any]) -> str:
    """Machine and meaning of the columns."""
    on = "" if environment["device"] == "cpu" else f"{environment['device']}, "
    clock = "processor time" if settings["threads"] == 1 and not on else "elapsed time"
    return (
        f"machine   {on}{environment['processor']}, {environment['threads']} of {environment['cores']} threads, torch "
        f"{environment['packages']['torch']}\n"
        f"columns   medians of {counted(settings['repeats'], 'round')} in which the forms take turns, ms of {clock}; "
        f"x: over svd, above 1 svd is\n          faster; kept: the inverse in eval mode, whose matrix is kept"
    )


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """The times of one case."""
    phases = (("forward", "forward"), ("inverse", "inverse"), ("both", "fwd + bwd"), ("kept", "kept"))
    lines = [title, f"{'form':<8}" + "".join(f"{name:>12}{'x':>7}" for _, name in phases)]
    for row in rows:
        cells = ((row["time_ms"][phase]["median"], row["ratio"][phase]) for phase, _ in phases)
        lines.append(f"{row['form']:<8}" + "".join(f"{time:>12.2f}{ratio:>7.2f}" for time, ratio in cells))
    return "\n".join(lines)
