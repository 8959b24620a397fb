"""`python scripts/benchmark_training.py [loop] [loader] [monitor] [flags]`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcp.cli.benchmarks.command import bar, common, optional, read, save, takes
from gcp.cli.flags import Flags, choice, find_device, numbers
from gcp.errors import UnknownNameError

if TYPE_CHECKING:
    from gcp.analysis.benchmarks.workload import Workload

TOPICS = ("loop", "loader", "monitor")
MODEL = ("--backbone", "--head", "--dim", "--amp")
FLAGS = takes(one=(*MODEL, "--images", "--workers", "--batch", "--size", "--threads"), none=["--channels-last"])
AMP = ("none", "bf16", "fp16")

USAGE = f"""\
Speed of training beside the model itself, and of reading images; all topics unless some are named.

  python scripts/benchmark_training.py [loop] [loader] [monitor] [flags]

  loop     epochs over the digits by gcp's fit, and by a bare loop of the same model on the same batches
  loader   epochs over a generated folder of JPEG files by our loader, timm's and torchvision's
  monitor  steps on a batch of digits with and without an observation of the spectrum (monitor.spectrum)

  --backbone NAME    resnet20_cifar      --head NAME  svd_pade      --dim N  64 (loop, monitor)
  --device           cpu, cuda, cuda:1 ... (cpu)                                (loop, monitor)
  --amp              {"|".join(AMP)}      --channels-last                      (loop, monitor)
  --images N         files that are generated (256)                                      (loader)
  --workers N        processes of each loader; 0: the processor time is shown too (0)    (loader)
  --batch N          64
  --size N           side of the images (loop, monitor: 32, loader: 224)
  --repeats N        timed rounds, of which the median is shown (7)      --warmup N  rounds before them (1)
  --threads N        of the processor (loop, monitor: torch's choice, loader without workers: 1)
  --json FILE        everything, with least and greatest values, versions and the command line

Example:
  python scripts/benchmark_training.py loader --workers 2 --json loader.json
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    words = list(argv)
    topics = []
    while words and not words[0].startswith("-") and "=" not in words[0]:
        topics.append(words.pop(0))
    for topic in topics:
        if topic not in TOPICS:
            raise UnknownNameError("topic", topic, TOPICS)
    flags = read(words, FLAGS, USAGE)
    return 0 if flags is None else _measure(tuple(dict.fromkeys(topics)) or TOPICS, flags)


def read_settings(flags: Flags) -> dict[str, Any]:
    """Flags as plain values with their defaults; None where the default depends on the topic.

    Raises:
        OptionError: a value outside what is allowed.
        UnknownNameError: not one of the names that a flag takes.
    """
    return {
        "backbone": flags.get("--backbone", ["resnet20_cifar"])[0],
        "head": flags.get("--head", ["svd_pade"])[0],
        "dim": numbers(flags, "--dim", [64], 1)[0],
        "amp": choice(flags, "--amp", AMP),
        "channels_last": "--channels-last" in flags,
        "images": numbers(flags, "--images", [256], 1)[0],
        "workers": numbers(flags, "--workers", [0], 0)[0],
        "batch": numbers(flags, "--batch", [64], 2)[0],
        "size": optional(flags, "--size"),
        "threads": optional(flags, "--threads"),
        **common(flags, repeats=7, warmup=1),
    }


def _measure(topics: tuple[str, ...], flags: Flags) -> int:
    settings = read_settings(flags)
    import torch

    from gcp.cli.benchmarks.training_table import header, loader_table, loop_table, monitor_table
    from gcp.engine.environment import describe_environment

    device = find_device(settings["device"])
    threads = torch.get_num_threads()
    result: dict[str, Any] = {"settings": settings, "environment": describe_environment(device)}
    print(header(result["environment"], settings))
    for topic in topics:
        torch.set_num_threads(settings["threads"] or (1 if topic == "loader" else threads))
        measure, table = {
            "loop": (_loop, loop_table),
            "loader": (_loader, loader_table),
            "monitor": (_monitor, monitor_table),
        }[topic]
        result[topic] = {"threads": torch.get_num_threads(), **measure(settings, device)}
        print(f"\n{table(result[topic])}", flush=True)
    torch.set_num_threads(threads)
    save(settings["json"], result)
    return 0


def _loop(settings: dict[str, Any], device: Any) -> dict[str, Any]:
    from gcp.analysis.benchmarks.loop import compare_loops

    return compare_loops(_workload(settings, device), settings["repeats"], settings["warmup"], bar("loop, rounds"))


def _monitor(settings: dict[str, Any], device: Any) -> dict[str, Any]:
    from gcp.analysis.benchmarks.monitor_cost import measure_monitor
    from gcp.config.sections import Monitor

    every, workload = int(Monitor().every.amount), _workload(settings, device)
    return measure_monitor(every, workload, settings["repeats"], settings["warmup"], bar("monitor, rounds"))


def _workload(settings: dict[str, Any], device: Any) -> "Workload":
    from gcp.analysis.benchmarks.workload import Workload

    same = {name: settings[name] for name in ("backbone", "head", "dim", "amp", "channels_last")}
    return Workload(batch_size=settings["batch"], image_size=settings["size"] or 32, device=device, **same)


def _loader(settings: dict[str, Any], device: Any) -> dict[str, Any]:
    from gcp.analysis.benchmarks.loading import compare_loaders
    from gcp.analysis.benchmarks.photographs import write_photographs

    with tempfile.TemporaryDirectory(prefix="gcp-benchmark-") as folder:
        write_photographs(Path(folder), settings["images"])
        return compare_loaders(
            Path(folder),
            settings["batch"],
            settings["size"] or 224,
            settings["workers"],
            settings["repeats"],
            settings["warmup"],
            watch=bar("loader, rounds"),
        )
