"""From a command to a run: its folder is made or found, locked, and the run in it is started or continued.

What a fault leaves. Data, model or stages that cannot be built leave no folder of a new run, and a run that is resumed
as it was. A fault in training leaves everything up to the newest checkpoint, from which `resume` goes on; in a run of
several stages that is the stage that failed, and the stages after it have no folder.
"""

import json

from gcp.cli import build, session, stages
from gcp.config import Config, dump, from_dict
from gcp.engine.files import write_text
from gcp.engine.folder import RunFolder, create_run_folder
from gcp.errors import GCPError


def start(config: Config) -> int:
    """Make the run folder and train. Returns the exit code."""
    folder = create_run_folder(config.run.dir, config.run.name, build.run_stem(config))
    config = from_dict(config.plain(), [f"run.name={json.dumps(folder.path.name)}"])
    write_text(folder.config, dump(config))  # first of all: from here on the run can be resumed
    folder.lock()
    try:
        try:
            run = _build(config, folder)
        except GCPError:
            folder.discard()
            raise
        return run.run()
    finally:
        folder.unlock()


def resume(config: Config, folder: RunFolder) -> int:
    """Continue a run from its newest whole checkpoint, or from the beginning where it has none."""
    folder.lock()
    try:
        return _build(config, folder).go_on()
    finally:
        folder.unlock()


def _build(config: Config, folder: RunFolder) -> session.Session | stages.StagedRun:
    return stages.StagedRun(config, folder) if config.stages else session.Session(config, folder)
