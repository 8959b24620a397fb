"""`python train.py --config FILE [key=value ...]` and `python train.py resume=RUN [key=value ...]`."""

import logging

from gcp.cli.arguments import Arguments, parse
from gcp.cli.listing import KINDS, listing
from gcp.cli.main import run
from gcp.errors import ConfigError, GCPError

FLAGS = {"--config": (1, 1), "--list": (1, 2), "--help": (0, 0)}

USAGE = f"""\
Train a classifier.

  python train.py --config FILE [key=value ...]   new run, settings of the file changed by key=value
  python train.py resume=RUN [key=value ...]      continue a run folder (or its name under runs/) where it stopped
  python train.py --list {"|".join(KINDS)} [pattern]
  python train.py --help

Example:
  python train.py --config configs/digits/resnet.yaml head.name=newton_schulz train.epochs=5

With resume only these may change: train.epochs, run.device, run.threads, data.workers, data.root, evaluate.*,
checkpoint.*; everything else is that of the run.
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
    if "--help" in arguments.flags:
        from gcp.config import describe

        print(f"{USAGE}\nKeys of a configuration:\n\n{describe()}")
        return 0
    if "--list" in arguments.flags:
        print(listing(*arguments.flags["--list"]))
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
    from gcp.config import load

    config = load(path, arguments.overrides)
    from gcp.cli.session import start

    return start(config)


def _resume(run: str, arguments: Arguments) -> int:
    if "--config" in arguments.flags:
        raise GCPError("resume takes the configuration from the run's folder; leave --config out")
    check_overrides(arguments.overrides, RESUMABLE, "a run that is resumed")
    from gcp.config import load
    from gcp.engine.folder import find_run_folder

    folder = find_run_folder(run)
    config = load(folder.config, arguments.overrides)
    from gcp.cli.session import resume

    return resume(config, folder)


def check_overrides(overrides: list[str], allowed: tuple[str, ...], what: str) -> None:
    """Refuse settings outside `allowed` (full keys, or prefixes that end in a dot), all of them in one error."""
    keys = [word.partition("=")[0] for word in overrides]
    listed = ", ".join(f"{key}*" if key.endswith(".") else key for key in allowed)
    faults = [
        f"{key}: cannot change in {what}; allowed: {listed}"
        for key in keys
        if key not in allowed and not key.startswith(tuple(a for a in allowed if a.endswith(".")))
    ]
    if faults:
        raise ConfigError(faults, "the command line")


def entry() -> int:
    """The command as a program: exit code of the process."""
    return run(main)
