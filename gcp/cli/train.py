"""`python train.py --config FILE [key=value ...]` and `python train.py resume=RUN [key=value ...]`."""

import logging
import re

from gcp.cli import help
from gcp.cli.arguments import Arguments, parse
from gcp.cli.main import run
from gcp.errors import ConfigError, GCPError

FLAGS = {"--config": (1, 1), **help.FLAGS}

USAGE = f"""\
Train a classifier.

  python train.py --config FILE [key=value ...]   new run, settings of the file changed by key=value
  python train.py resume=RUN [key=value ...]      continue a run folder (or its name under runs/) where it stopped
  python train.py {help.LIST}
  python train.py --help

Example:
  python train.py --config configs/digits/resnet.yaml head.name=newton_schulz train.epochs=5

With resume only these may change: train.epochs, run.device, run.threads, data.workers, data.root, evaluate.*,
checkpoint.*; everything else is that of the run. A run of several stages goes on with the stage that it is in; the
keys of a stage are given as stages.N.train.epochs=20, N from 1.
"""

RESUMABLE = (
    "train.epochs",
    "run.device",
    "run.threads",
    "data.workers",
    "data.root",
    "evaluate.",
    "checkpoint.",
)


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    arguments = parse(argv, FLAGS)
    if text := help.answer(arguments, USAGE):
        print(text)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run = arguments.take("resume")
    if run is not None:
        return _resume(run, arguments)
    return _start(arguments)


def _start(arguments: Arguments) -> int:
    path = arguments.value("--config")
    if path is None:
        raise GCPError(
            "no configuration. Type for example\n"
            "  python train.py --config configs/digits/resnet.yaml\n"
            "or resume=RUN to continue a run; --help shows every setting."
        )
    from gcp.cli.pretrained import check_pretrained
    from gcp.config import load

    config = load(path, arguments.overrides)
    check_pretrained(config)
    from gcp.cli.launch import start

    return start(config)


def _resume(run: str, arguments: Arguments) -> int:
    if "--config" in arguments.flags:
        raise GCPError("resume takes the configuration from the run's folder; leave --config out")
    check_overrides(arguments.overrides, RESUMABLE, "a run that is resumed")
    from gcp.config import load
    from gcp.engine.folder import find_run_folder

    folder = find_run_folder(run).whole()
    config = load(folder.config, arguments.overrides)
    from gcp.cli.launch import resume

    return resume(config, folder)


def check_overrides(overrides: list[str], allowed: tuple[str, ...], what: str) -> None:
    """Refuse settings outside `allowed` (full keys, or prefixes that end in a dot), all of them in one error. What is
    allowed of a run is allowed of a stage of it.
    """
    keys = [word.partition("=")[0] for word in overrides]
    listed = ", ".join(f"{key}*" if key.endswith(".") else key for key in allowed)
    faults = [
        f"{key}: cannot change in {what}; allowed: {listed}"
        for key in keys
        if not any(_within(re.sub(r"^stages\.\d+\.", "", key), place) for place in allowed)
    ]
    if faults:
        raise ConfigError(faults, "the command line")


def _within(key: str, place: str) -> bool:
    return key.startswith(place) if place.endswith(".") else key == place


def entry() -> int:
    """The command as a program: exit code of the process."""
    return run(main)
