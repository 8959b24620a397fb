"""`gcp fidelity [--checkpoint RUN|FILE] [--heads NAME ...] [flags] [key=value ...]`."""

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcp.cli.arguments import Arguments, Flags, numbers, parse
from gcp.command import as_typed
from gcp.errors import GCPError, OptionError, UnknownNameError, counted

if TYPE_CHECKING:
    from gcp.studies.fidelity.measure import Row
    from gcp.studies.fidelity.spectra import FeatureMaps

MANY = 1000
SWEEPS = ("condition", "gap", "samples", "zero_channels", "relu")
CHOICES = {
    "--forms": ("folded", "published"),
    "--precisions": ("float32", "float64"),
    "--sides": ("channel", "sample"),
    "--sweeps": SWEEPS,
}
FLAGS = {
    **dict.fromkeys(("--heads", "--rules", "--dim", *CHOICES), (1, MANY)),
    **dict.fromkeys(("--checkpoint", "--features", "--out", "--draws", "--batches", "--seed", "--threads"), (1, 1)),
    "--help": (0, 0),
}
SPLITS = ("test", "val", "train")
ALLOWED = ("data.", "run.", "evaluate.batch_size")
BATCH = "evaluate.batch_size=8"

USAGE = """\
How far the gradient of each head is from the exact one, without training: relative error, cosine and norm of the
gradient with respect to the features, and the error of the output, for one random upstream gradient.

  gcp fidelity [flags]
      features with prescribed spectra
  gcp fidelity --checkpoint MODEL [flags] [key=value ...]
      features of a model
  gcp fidelity --features FILE [flags]
      features of a file, (N, channels, H, W)

  --heads NAME ...   heads by name or shell pattern ('svd_*'); default: every head that takes a root
  --rules NAME ...   heads by the name of their rule (gcp list rules)
  --forms            folded published: which forms of the rules (both)
  --precisions       float32 float64 (both)
  --sides            channel sample: which matrix is decomposed (both); published forms use channel only
  --sweeps           condition gap samples zero_channels relu (all); with MODEL or FILE none unless named here
  --dim N ...        channels (64 12); up to 16 are compared with 50 digits, more with float64. The tables show the
                     first, the files all
  --draws N          random features at each point, of which median and quartiles are shown (5)
  --batches N        batches of the split of MODEL, from its start (4)
  --out FOLDER       fidelity.csv, fidelity.json and figures/; without it nothing is written
  --seed N           of features and upstream gradient (0)      --threads N  of the processor

MODEL is all that gcp evaluate takes. Of its settings data.*, run.* and evaluate.batch_size (8) can be changed, and
split=test|val|train. Its features are taken where the covariance is: after the reduction, in evaluation mode.

Examples:
  gcp fidelity --heads 'svd_*' newton_schulz polar_express --sweeps condition gap --out fidelity
  gcp fidelity --checkpoint runs/digits-resnet20_cifar-svd_pade-1 --forms folded --precisions float32
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    arguments = parse(argv, FLAGS)
    if "--help" in arguments.flags:
        print(as_typed(USAGE))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("checkpoint", "features"):
        if value := arguments.take(name):
            arguments.flags[f"--{name}"] = [value]
    settings = read_settings(arguments)
    with warnings.catch_warnings():
        # that the published power iteration passes no gradient is a line of every table here
        warnings.filterwarnings("ignore", message="the published form of 'power_iteration'")
        return _measure(settings, arguments.overrides)


def read_settings(arguments: Arguments) -> dict[str, Any]:
    """The command line as plain values with their defaults, all names checked.

    Raises:
        GCPError: what does not fit together, with what to type.
    """
    flags, split = arguments.flags, arguments.take("split")
    given = next((flag for flag in ("--checkpoint", "--features") if flag in flags), None)
    if {"--checkpoint", "--features"} <= flags.keys():
        raise GCPError("--checkpoint and --features both name features; leave one of them out.")
    if {"--heads", "--rules"} <= flags.keys():
        raise GCPError("--heads and --rules both choose heads; leave one of them out.")
    if given != "--checkpoint" and (words := [*arguments.overrides, *([f"split={split}"] if split else [])]):
        raise GCPError(f"unexpected {words[0]!r}: settings are those of a model, given with --checkpoint; see --help.")
    if split is not None and split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    sweeps = () if given and "--sweeps" not in flags else _choices(flags, "--sweeps")
    return {
        "checkpoint": flags.get("--checkpoint", [None])[0],
        "features": flags.get("--features", [None])[0],
        "split": split or "test",
        "heads": flags.get("--heads"),
        "rules": flags.get("--rules"),
        **{flag.removeprefix("--"): _choices(flags, flag) for flag in ("--forms", "--precisions", "--sides")},
        "sweeps": list(sweeps),
        "dim": numbers(flags, "--dim", [64, 12], 2),
        "draws": numbers(flags, "--draws", [5], 1)[0],
        "batches": numbers(flags, "--batches", [4], 1)[0],
        "seed": numbers(flags, "--seed", [0], 0)[0],
        "threads": numbers(flags, "--threads", [1], 1)[0] if "--threads" in flags else None,
        "out": _folder(flags.get("--out", [None])[0]),
    }


def _choices(flags: Flags, flag: str) -> list[str]:
    """The words after a flag, each once, by default all that it takes. Raises UnknownNameError for another."""
    allowed = CHOICES[flag]
    for word in flags.get(flag, ()):
        if word not in allowed:
            raise UnknownNameError(flag.removeprefix("--").removesuffix("s"), word, allowed)
    return list(dict.fromkeys(flags.get(flag, allowed)))


def _folder(path: str | None) -> str | None:
    """Make the folder of the results before minutes are spent on what should go into it."""
    if path is not None:
        try:
            Path(path, "figures").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"--out {path}: cannot make that folder ({error.strerror or error}).") from error
        if not os.access(path, os.W_OK):
            raise OptionError(f"--out {path}: that folder cannot be written to.")
    return path


def _measure(options: dict[str, Any], overrides: list[str]) -> int:
    from tqdm import tqdm

    from gcp.studies.fidelity.measure import measure
    from gcp.studies.fidelity.methods import heads_of_rules, methods
    from gcp.studies.fidelity.spectra import settings
    from gcp.studies.fidelity.tables import safe_ranges, safe_table, tables, write

    heads = heads_of_rules(options["rules"]) if options["rules"] else options["heads"]
    chosen = methods(heads, options["forms"])
    if options["threads"] is not None:
        from gcp.kernels.cpu import set_threads

        set_threads(options["threads"])
    points = [*_given(options, overrides), *settings(*(options[key] for key in ("sweeps", "dim", "draws", "seed")))]
    rows: list[Row] = []
    for point in tqdm(points, desc="settings", leave=False, disable=None):
        rows += measure(point, chosen, options["sides"], options["precisions"], options["seed"])
    safe = safe_ranges(rows)
    told = [safe_table(safe, channels) for channels in dict.fromkeys(each.channels for each in safe)]
    narrow = set(options["dim"][1:])  # what one looks at is the first; the file has all
    print(tables([row for row in rows if row["channels"] not in narrow or row["source"] not in SWEEPS]))
    print("".join(f"\n{text}\n" for text in told[:1]), end="")
    if options["out"] is not None:
        names = write(Path(options["out"]), options, points, rows, told)
        print(f"\n{counted(len(rows), 'row')} in {options['out']}/fidelity.csv; figures/: {', '.join(names) or 'none'}")
    return 0


def _given(options: dict[str, Any], overrides: list[str]) -> list["FeatureMaps"]:
    """The features of a model or of a file, with a line about their spectra."""
    from gcp.studies.fidelity.spectra import given
    from gcp.studies.fidelity.tables import format_setting

    if options["checkpoint"] is not None:
        name, maps = _captured(options, overrides)
    elif options["features"] is not None:
        from gcp.studies.fidelity.features import read_features

        name, maps = f"features {Path(options['features']).name}", read_features(options["features"])
    else:
        return []
    setting = given(name, maps)
    print(format_setting(setting) + "\n")
    return [setting]


def _captured(options: dict[str, Any], overrides: list[str]) -> tuple[str, Any]:
    from itertools import islice

    from gcp.cli.train import check_overrides
    from gcp.engine.device import ToDevice
    from gcp.engine.distributed import ALONE
    from gcp.runs.open_model import open_model
    from gcp.studies.fidelity.features import capture

    check_overrides(overrides, ALLOWED, "a measurement")
    scored_model = open_model(options["checkpoint"], [BATCH, *overrides, "evaluate.crops=one"], ALONE)
    config = scored_model.config
    images = scored_model.prepared(getattr(scored_model.splits(), options["split"]))
    loader = scored_model.loader(images, ALONE)
    to_device = ToDevice(scored_model.device, loader.normalize, config.run.channels_last)
    maps = capture(scored_model.model, islice(loader.epoch(0), options["batches"]), to_device, config.run.amp)
    return f"{_name(scored_model.given)} ({config.data.name}, {options['split']})", maps


def _name(checkpoint: str) -> str:
    """The folder and the file of a checkpoint."""
    return "/".join(Path(checkpoint).resolve().parts[-2:]) if Path(checkpoint).exists() else checkpoint
