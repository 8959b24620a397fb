"""The monitor in a run, with its records: table, TensorBoard, remarks on the log, and the picture."""

import logging
from pathlib import Path

from torch import Tensor

from gcp.callbacks.base import RunCallback, RunContext
from gcp.callbacks.monitor.monitor import HeadMonitor
from gcp.callbacks.monitor.table import SpectrumTable
from gcp.engine.log import NullLog, RunLog
from gcp.engine.state import TrainingState
from gcp.engine.step import Window

TABLE, PICTURE = "spectrum.csv", "spectrum.png"


class ObserveSpectrum(RunCallback):
    """Eigenvalues and gradients at the head, in the process that writes; the others do nothing."""

    name = "monitor"
    monitor: HeadMonitor | None = None
    rows: SpectrumTable

    def setup(self, run: RunContext) -> None:
        self.run = run

    def start(self, state: TrainingState) -> None:
        run = self.run
        if not run.group.main:
            return
        every, compiled = run.steps(self.config.monitor.every), self.config.run.compile
        self.monitor = HeadMonitor(state, run.step_options, every, run.to_device, run.group.world, compiled)
        self.rows = SpectrumTable(run.folder / TABLE, state.progress.step)

    def before_step(self, state: TrainingState, window: Window, log: RunLog | NullLog) -> None:
        if self.monitor:
            self.monitor.begin(window)

    def after_step(self, state: TrainingState, sums: Tensor, log: RunLog | NullLog) -> None:
        if self.monitor and (row := self.monitor.end()):
            self.rows.add(row)
            remarks = (f"spectrum   step {state.progress.step}: {text}" for text in self.monitor.remarks(row))
            log.record("spectrum", row, "\n".join(remarks))

    def close(self, folder: Path) -> None:
        if not self.monitor:
            return
        from gcp.callbacks.monitor.plot import draw

        self.monitor.close()
        try:
            draw(folder / TABLE, folder / PICTURE)
        except OSError as error:  # costs nothing else
            logging.getLogger("gcp").warning("cannot write %s: %s", folder / PICTURE, error)
