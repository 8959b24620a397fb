"""`python scripts/benchmark_glow.py [--channels N ...] [--size N] ...`."""

from functools import partial
from typing import Any

from gcp.cli.benchmarks.command import bar, common, heading, read, save, takes
from gcp.cli.flags import Flags, find_device, numbers
from gcp.errors import OptionError, counted

SINGLE = {  # default, least
    "batch": (16, 1),
    "images": (3, 1),
    "size": (32, 2),
    "levels": (3, 1),
    "steps": (4, 1),
    "width": (64, 1),
    "threads": (1, 1),
    "seed": (0, 0),
}
FLAGS = takes(["--channels"], [f"--{key}" for key in SINGLE])

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
    flags = read(argv, FLAGS, USAGE)
    return 0 if flags is None else _measure(flags)


def _measure(flags: Flags) -> int:
    settings = read_settings(flags)
    import torch

    from gcp.analysis.benchmarks import glow as bench
    from gcp.engine.environment import describe_environment

    torch.set_num_threads(settings["threads"])
    device = find_device(settings["device"])
    sizes = {key: settings[key] for key in ("batch", "size", "levels", "steps", "width", "seed")}
    place = bench.Place(channels=settings["images"], device=device, **sizes)
    environment = describe_environment(device)
    print(heading(settings, environment, "forms", COLUMNS))
    points: list[dict[str, Any]] = []

    def point(title: str, works: dict[str, bench.Work]) -> None:
        rows = bench.compare(works, device, settings["repeats"], settings["warmup"], bar())
        points.append({"what": title, "rows": rows})
        print(f"\n{table(title, rows)}", flush=True)

    for channels in settings["channels"]:
        side = max(place.size // 4, 1)
        title = f"convolution alone, {channels} channels, {place.batch} maps of {side} x {side}"
        point(title, bench.forms_of(partial(bench.convolution, channels=channels, place=place)))
    title = f"flow, {counted(place.levels, 'level')} of {counted(place.steps, 'step')}, width {place.width}, "
    title += f"{place.batch} images of {place.channels} x {place.size} x {place.size}"
    point(title, bench.forms_of(partial(bench.flow, place=place)))
    save(settings["json"], {"settings": settings, "environment": environment, "points": points})
    return 0


def read_settings(flags: Flags) -> dict[str, Any]:
    """Flags as plain values with their defaults.

    Raises:
        OptionError: a value outside what is allowed.
    """
    settings = {key: numbers(flags, f"--{key}", [default], least)[0] for key, (default, least) in SINGLE.items()}
    if settings["size"] % 2 ** settings["levels"]:
        whole = f"a multiple of {2 ** settings['levels']}, which --levels {settings['levels']} halves as often"
        raise OptionError(f"--size is {settings['size']}; allowed: {whole}.")
    channels = numbers(flags, "--channels", [12, 48, 192], 1)
    return {**settings, "channels": channels, **common(flags, repeats=5, warmup=1)}


COLUMNS = "x: over svd, above 1 svd is\n          faster; kept: the inverse in eval mode, whose matrix is kept"


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """The times of one case."""
    phases = (("forward", "forward"), ("inverse", "inverse"), ("both", "fwd + bwd"), ("kept", "kept"))
    lines = [title, f"{'form':<8}" + "".join(f"{name:>12}{'x':>7}" for _, name in phases)]
    for row in rows:
        cells = ((row["time_ms"][phase]["median"], row["ratio"][phase]) for phase, _ in phases)
        lines.append(f"{row['form']:<8}" + "".join(f"{time:>12.2f}{ratio:>7.2f}" for time, ratio in cells))
    return "\n".join(lines)
