"""From a command to a run: make or find its folder, lock it, and start or resume the run in it.

After a fault: where data, model or stages cannot be built, a new run leaves no folder, and a resumed run stays as it
was. A fault in training leaves everything up to the newest checkpoint, from which `resume` continues; in a run of
several stages it continues the stage that failed, and the stages after it have no folder yet.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcp.config import Common, Config, dump, from_dict, load
from gcp.config.load import changes, with_images_of
from gcp.engine import distributed
from gcp.engine.distributed import ALONE, Group
from gcp.engine.folder import RunFolder, create_run_folder, write_text
from gcp.errors import ConfigError, GCPError
from gcp.runs import build, processes
from gcp.runs.task import CLASSIFIER, Task

if TYPE_CHECKING:
    from gcp.runs.run import TrainingRun
    from gcp.runs.stages import StagedRun


def start(config: Common, group: Group = ALONE, task: Task = CLASSIFIER) -> int:
    """Make the run folder and train. Returns the exit code."""
    return begin(config, group, task)[0]


def begin(
    config: Common, group: Group = ALONE, task: Task = CLASSIFIER
) -> "tuple[int, TrainingRun[Any] | StagedRun]":  # fmt: skip
    """`start`, which returns the run as well."""
    task.check(config)
    _begin(config, group)
    made = _make(config, task) if group.main else None
    path = group.broadcast(str(made.path) if made else "")
    folder = made or RunFolder(path)
    name = f"run.name={json.dumps(folder.path.name)}"
    with _discarded_at_faults(folder, group):
        config = task.complete(from_dict(config.plain(), [name], "the configuration", task.schema))
    if group.main:
        write_text(folder.config, dump(config))  # first of all: from here on the run can be resumed
        folder.lock()  # at whose fault nothing is discarded: the folder is another's
    try:
        with _discarded_at_faults(folder, group):
            run = _build(config, folder, group, task)
        return run.run(), run
    finally:
        folder.unlock()


@contextmanager
def _discarded_at_faults(folder: RunFolder, group: Group) -> Iterator[None]:
    """Remove the folder of a run that cannot begin."""
    try:
        yield
    except GCPError:
        if group.main:
            folder.discard()
        raise


def with_average(config: Config) -> Config:
    """The same run with average pooling and nothing between backbone and classifier."""
    values = config.plain() | {"head": {"name": "average", "dim": None}}
    return from_dict(values, (), "the configuration with average pooling (compare_average)")


def resume(config: Common, folder: RunFolder, group: Group = ALONE, task: Task = CLASSIFIER) -> int:
    """Continue a run from its newest whole checkpoint, or from the beginning where it has none."""
    _begin(config, group)
    if group.main:
        folder.lock()
    try:
        return _build(config, folder, group, task).resume()
    finally:
        folder.unlock()


def start_or_resume(config: Common, group: Group = ALONE, task: Task = CLASSIFIER) -> int:
    """Continue the run of that name, or start it where there is none yet.

    Raises:
        ConfigError: the run was begun with other settings.
        GCPError: no name.
    """
    if config.run.name is None:
        raise GCPError("resume=auto continues a run by its name: add run.name=NAME")
    _begin(config, group)
    folder = RunFolder(Path(config.run.dir, config.run.name))
    if not group.broadcast(folder.config.is_file()):
        return start(config, group, task)
    before = load(folder.config, [], task.schema, written=True)
    config = with_images_of(config, before)
    if faults := changes(before, config):
        raise ConfigError(faults, f"the settings, with which {folder.path} cannot be continued")
    return resume(config, folder, group, task)


def _begin(config: Common, group: Group) -> None:
    if group.watchdog:
        group.watchdog.timeout = 60 * config.run.hang_minutes
    distributed.start(group, build.build_device(config, group))


def _make(config: Common, task: Task) -> RunFolder:
    return create_run_folder(config.run.dir, config.run.name, task.stem(config), task.command)


def _build(config: Common, folder: RunFolder, group: Group, task: Task) -> "TrainingRun[Any] | StagedRun":
    if config.run.rank_logs and not group.main:
        processes.log_to(Path(folder.path, f"rank-{group.rank}.log"))
    return task.build(config, folder, group)
