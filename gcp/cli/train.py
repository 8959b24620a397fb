"""`gcp train --config FILE [key=value ...]` and `gcp train resume=RUN [key=value ...]`."""

import logging
import os
from typing import TYPE_CHECKING

from gcp.cli.arguments import ANSWERED, Arguments, answer, parse
from gcp.cli.listing import LIST
from gcp.errors import ConfigError, GCPError, nearest, suggest
from gcp.runs.task import CLASSIFIER, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gcp.config import Config
    from gcp.engine.distributed import Group

FLAGS = {"--config": (1, 1), **ANSWERED}

USAGE = f"""\
Train a classifier.

  gcp train --config RECIPE [key=value ...]
      a new run, with settings of the recipe changed by key=value. RECIPE is a YAML file of your own, or the name of
      one that comes with gcp, such as digits/resnet; `gcp list recipes` lists these
  gcp train resume=RUN [key=value ...]
      continue a run, given by its folder or its name under runs/, where it stopped
  gcp train --config RECIPE compare_average=true [key=value ...]
      the run, then the same run with average pooling, to see how much the head gains
  gcp train --config RECIPE run.name=NAME resume=auto [key=value ...]
      continue that run, or begin it if it is not there: for schedulers and torchrun
  torchrun --nproc-per-node=N -m gcp train ...
      in N processes, one per GPU, with the same result
  gcp train {LIST}
  gcp train --help

Example:
  gcp train --config digits/resnet head.name=newton_schulz train.epochs=5

With resume only these settings may change: train.epochs, train.cache_dir, run.device, run.threads, run.hang_minutes,
run.rank_logs, data.workers, data.root, evaluate.*, checkpoint.*, log.*, monitor.*. All others are those of the run. The
number of processes may change too. A run of several stages continues in the stage that it has reached; a setting of
stage N, counted from 1, is given as stages.N.train.epochs=20.
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    return command(argv, USAGE, CLASSIFIER)


def command(argv: list[str], usage: str, task: Task) -> int:
    """The command that trains a kind of model: `usage` is its help."""
    arguments = parse(argv, FLAGS)
    if text := answer(arguments, usage, task):
        print(text)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from gcp.runs.processes import process_group

    with process_group() as group:
        run = arguments.take("resume")
        if run is None or run == "auto":
            return _start(arguments, run == "auto", group, task)
        return _resume(run, arguments, group, task)


def _start(arguments: Arguments, continues: bool, group: "Group", task: Task) -> int:
    path = arguments.value("--config")
    if path is None:
        raise GCPError(
            "no configuration. Type for example\n"
            f"  gcp {task.command} --config {task.example}\n"
            "or resume=RUN to continue a run; --help shows every setting."
        )
    compared = _switch(arguments, "compare_average")
    _check_switches(arguments.overrides)
    if not continues and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        raise GCPError("torchrun restarts the run, which would begin anew: add run.name=NAME resume=auto")
    from gcp.config import load, recipes, yaml_file

    if yaml_file.says_nothing(recipes.find(path)):
        raise GCPError(f"{path} is empty, and would train with every default. Recipes: gcp list recipes")
    config = load(path, arguments.overrides, task.schema)
    from gcp.runs import launch

    if compared and (continues or task is not CLASSIFIER):
        raise GCPError("compare_average=true is for a new run of a classifier; leave it, or resume=auto, out")
    if compared:
        return _compare(config, group)
    if continues:
        return launch.start_or_resume(config, group, task)
    return launch.start(config, group, task)


def _check_switches(overrides: "Sequence[str]") -> None:
    """A word without a section that is nearly a switch of this command, which no section's key resembles."""
    for key in (word.partition("=")[0] for word in overrides):
        meant = None if "." in key else nearest(key, ["compare_average"], 0.75)
        if meant:
            raise GCPError(f"{key}: unknown key; did you mean {meant}=true?")


def _switch(arguments: Arguments, key: str) -> bool:
    given = arguments.take(key)
    if given not in (None, "true", "false"):
        raise GCPError(f"{key} is {given!r}; allowed: true, false")
    return given == "true"


def _compare(config: "Config", group: "Group") -> int:
    """Train with the head of the configuration and with average pooling, and say what the head gains."""
    from gcp.config import from_dict
    from gcp.runs import launch

    launch.with_average(config)  # its faults come before anything is trained
    code, first = launch.begin(config, group)
    name = first.folder.path.name
    if code or first.stop_code:
        print(f"not compared with average pooling: {first.folder.path} was stopped")
        return code or first.stop_code
    ours = first.samples
    del first  # its model
    plain = launch.with_average(from_dict(config.plain(), [f'run.name="{name}-average"']))
    code, second = launch.begin(plain, group)
    theirs = second.samples
    if ours is None or theirs is None or code or second.stop_code:
        return code or second.stop_code
    from gcp.evaluation.comparison import compare

    found = compare(theirs.right.numpy(), ours.right.numpy())
    accuracies = [100 * samples.right.double().mean().item() for samples in (ours, theirs)]
    print(
        f"\n{config.head.name} against average pooling: {accuracies[0]:.2f} % and {accuracies[1]:.2f} % of "
        f"{found.count} test images, a gain of {found.difference:+.2f} points\n"
        f"95 % interval {found.low:+.2f} to {found.high:+.2f} (McNemar's test: p = {found.p:.2g}); of these images "
        "alone, another seed of the training may differ by more.\n"
        "Both had one learning rate; to tune it for each: gcp ablate --tune optim.lr=..."
    )
    return 0


def _resume(run: str, arguments: Arguments, group: "Group", task: Task) -> int:
    if "--config" in arguments.flags:
        raise GCPError("resume takes the configuration from the run's folder; leave --config out")
    from gcp.config import load
    from gcp.config.plugins import resumable
    from gcp.engine.folder import find_run_folder

    check_overrides(arguments.overrides, resumable(), "a run that is resumed")
    folder = find_run_folder(run).whole()
    config = load(folder.config, arguments.overrides, task.schema, written=True)
    from gcp.runs.launch import resume

    return resume(config, folder, group, task)


def check_overrides(overrides: list[str], allowed: tuple[str, ...], what: str, words: tuple[str, ...] = ()) -> None:
    """Refuse settings outside `allowed` (full keys, or prefixes that end in a dot), all of them in one error. What is
    allowed of a run is allowed of a stage of it. `words`: what else the command takes as word=value.
    """
    from gcp.config.plugins import within

    keys = [word.partition("=")[0] for word in overrides]
    listed = ", ".join(f"{key}*" if key.endswith(".") else key for key in allowed)
    faults = [
        f"{key}: cannot change in {what}; allowed: {listed}{suggest(key, words)}"
        for key in keys
        if not within(key, allowed)
    ]
    if faults:
        raise ConfigError(faults, "the command line")
