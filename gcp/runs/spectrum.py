"""The monitor of a run with its records: table, TensorBoard, what there is to say on the log, and the picture."""

import logging

from torch import Tensor

from gcp.config import Config
from gcp.engine.distributed import Group
from gcp.engine.folder import RunFolder
from gcp.engine.log import RunLog
from gcp.engine.monitor import Monitor, SpectrumTable
from gcp.engine.state import Progress, TrainingState
from gcp.engine.train import Events
from gcp.runs import build
from gcp.runs.timing import Timing

log = logging.getLogger("gcp")


def observe(
    events: Events,
    config: Config,
    state: TrainingState,
    timing: Timing,
    group: Group,
    folder: RunFolder,
    journal: RunLog,
) -> None:
    """Add the monitor to the events of a run, in the process that writes."""
    every = timing.steps(config.monitor.every)
    monitor = Monitor(state, build.build_recipe(config), every, group.world, config.run.compile)
    table, record = SpectrumTable(folder.spectrum, state.progress.step), events.step

    def step(progress: Progress, rates: dict[str, float], sums: Tensor) -> None:
        record(progress, rates, sums)
        if row := monitor.end():
            table.add(row)
            journal.spectrum(row)
            for text in monitor.remarks(row):
                journal.say(f"spectrum   step {progress.step}: {text}")

    events.observe, events.step = monitor.begin, step


def draw(folder: RunFolder) -> None:
    """The picture of the table; one that cannot be written is told, and costs nothing else."""
    from gcp.engine.monitor.plot import draw_spectrum

    try:
        draw_spectrum(folder.spectrum, folder.spectrum_curves)
    except OSError as error:
        log.warning("cannot write %s: %s", folder.spectrum_curves, error)
