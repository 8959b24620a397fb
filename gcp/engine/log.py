"""The records of a run: progress bar, table, `metrics.csv`, and whatever loggers it has (`gcp.loggers`).

Reading the sums from the device waits for it, so it is done at intervals: every `interval` steps for the loggers,
twice a second at most for the bar, which is only there on a terminal; elsewhere a line a minute says how far it is.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from gcp.data.seeds import preserved
from gcp.engine.folder import write_json
from gcp.engine.metrics import Columns, CrossEntropy, Objective, heading, line, write_metrics
from gcp.engine.state import Progress
from gcp.loggers import LoggedRun, Logger, create_loggers

log = logging.getLogger("gcp")

REFRESH = 0.5  # seconds between two updates of the bar
LINES = 60.0  # seconds between two lines where there is no bar
WAIT_LIMIT = 10.0  # percent of an epoch that the device may wait for images before the log says what to do
WAIT_LEAST = 1.0  # seconds of an epoch, below which waiting is not worth a message


KEPT = "loggers.json"  # in the run folder: what each logger needs to go on with its records


class MetricsFile(Logger):
    """`metrics.csv`, written anew after each epoch, so that no row is in it twice or from after the checkpoint."""

    essential = True

    def start(self, run: LoggedRun) -> None:
        self._path, self._history = run.folder / "metrics.csv", list(run.history)
        if self._history:
            write_metrics(self._path, self._history)
        else:  # a row may have been written after the checkpoint, or before any
            self._path.unlink(missing_ok=True)

    def row(self, name: str, row: Mapping[str, Any], step: int) -> None:
        if name == "epoch":
            self._history.append(dict(row))
            write_metrics(self._path, self._history)


class RunLog:
    """Writer of a run's records.

    Args:
        folder: the run folder.
        epochs: length of the run.
        total_steps: the same in optimizer steps.
        progress: where the run stands; events and rows after it are dropped.
        interval: steps between two points of the loggers.
        advice: what to do where the device waits for images (`gcp.data.Loader.advice`).
        further: columns that the printed table has beside the usual ones.
        objective: what is minimised, None for cross-entropy.
        loggers: where the records go, by name; None for the default ones.
        name: of the run.
        settings: of the run, by `section.key`.
    """

    def __init__(
        self,
        folder: Path,
        epochs: int,
        total_steps: int,
        progress: Progress,
        interval: int = 50,
        advice: str = "",
        further: Columns = (),
        objective: Objective | None = None,
        loggers: Mapping[str, Logger] | None = None,
        name: str = "",
        settings: Mapping[str, object] | None = None,
    ):
        from tqdm import tqdm

        self.folder, self.epochs, self.interval, self.advice = folder, epochs, interval, advice
        self._loggers = dict(create_loggers() if loggers is None else loggers)
        self._bar = tqdm(total=total_steps, initial=progress.step, unit="step", disable=None, leave=False)
        self._read = (progress.epoch, progress.loss_sum, progress.count, progress.seconds, progress.waited)
        self._total, self._shown, self._step = total_steps, 0.0, progress.step
        self._since = (time.monotonic(), progress.step)  # of the last line, or of the last epoch
        self._further, self._objective = further, objective or CrossEntropy()
        self._history = list(progress.history)
        self._start(name, dict(settings or {}))
        self.say(heading(further, self._objective.table))

    def _start(self, name: str, settings: Mapping[str, object]) -> None:
        """Start the loggers, each with what it kept of this run, and say where to look at what they write."""
        path, before, kept = self.folder / KEPT, {}, {}
        with suppress(OSError, ValueError):  # not there, or damaged: the loggers begin new records
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        for key in list(self._loggers):
            run = LoggedRun(self.folder, name, settings, self._step, tuple(self._history), before.get(key, {}))
            if found := self._call(key, "start", run):
                kept[key] = dict(found)
        if before | kept != before:
            write_json(path, before | kept)
        for key, logger in self._loggers.items():
            if logger.place:
                self.say(f"{key:<10} {logger.place}")

    def _call(self, name: str, method: str, *arguments: Any) -> Any:
        """Call a logger, whose faults end with a warning, and what it does to the random state with its call."""
        logger = self._loggers[name]
        try:
            with preserved():
                return getattr(logger, method)(*arguments)
        except (Exception, SystemExit) as error:
            if logger.essential:
                raise
            del self._loggers[name]
            log.warning(
                "the logger %s failed at step %d and is switched off, the run goes on: %s: %s",
                name,
                self._step,
                type(error).__name__,
                error,
            )
            with suppress(Exception, SystemExit), preserved():
                logger.close("failed")

    def _record(self, method: str, *arguments: Any) -> None:
        for name in list(self._loggers):
            self._call(name, method, *arguments)

    def say(self, text: str) -> None:
        """Print a line on stdout without tearing the bar."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def step(self, progress: Progress, rates: dict[str, float], sums: Tensor) -> None:
        """Record one optimizer step. `sums`: loss and right answers of the epoch so far, on the device."""
        self._step = progress.step
        if progress.step % self.interval == 0:
            self._point(progress, rates, sums.tolist()[0])
        now = time.monotonic()
        if self._bar.disable:
            if now - self._since[0] >= LINES:
                self.say(self._line(progress, now, *sums.tolist()))
                self._since = (now, progress.step)
        else:
            if now - self._shown >= REFRESH:
                self._shown = now
                self._show(progress, *sums.tolist())
            self._bar.update()

    def _line(self, progress: Progress, now: float, loss_sum: float, correct: float) -> str:
        """How far the run is, and how long the rest of it takes at the pace since the last line, without evaluation."""
        then, before = self._since
        left = (self._total - progress.step) * (now - then) / max(1, progress.step - before)
        place = f"epoch {progress.epoch + 1}/{self.epochs}, step {progress.step}/{self._total}"
        return (
            f"  {time.strftime('%H:%M:%S')} {place}, "
            f"{self._objective.text(loss_sum / progress.count, correct / progress.count)}, "
            f"{progress.count / max(1e-9, progress.seconds):.0f} images/s, {_duration(left)} left"
        )

    def _point(self, progress: Progress, rates: dict[str, float], loss_sum: float) -> None:
        """Mean loss, images per second and percent of waiting since the last point of this epoch, learning rates."""
        epoch, loss, count, seconds, waited = self._read
        if progress.epoch != epoch:  # the sums have begun anew since
            loss, count, seconds, waited = 0.0, 0, 0.0, 0.0
        self._read = (progress.epoch, loss_sum, progress.count, progress.seconds, progress.waited)
        images, passed = progress.count - count, max(1e-9, progress.seconds - seconds)
        row = {
            "loss": (loss_sum - loss) / images,
            "images_per_second": images / passed,
            "data_wait": 100 * (progress.waited - waited) / passed,
        }
        self._record("row", "step", row, progress.step)
        self._record("row", "lr", dict(rates), progress.step)

    def _show(self, progress: Progress, loss_sum: float, correct: float) -> None:
        self._bar.set_description(f"epoch {progress.epoch + 1}/{self.epochs}", refresh=False)
        self._bar.set_postfix_str(
            f"{self._objective.text(loss_sum / progress.count, correct / progress.count)}, "
            f"{progress.count / max(1e-9, progress.seconds):.0f} images/s",
            refresh=False,
        )

    def epoch(self, row: dict) -> None:
        """Record a finished epoch."""
        self._history.append(row)
        self._record("row", "epoch", dict(row), row["step"])
        self._since = (time.monotonic(), row["step"])
        self.say(line(row, self._further, self._objective.table))
        if [past["epoch"] for past in self._history if _waited(past)] == [row["epoch"]]:
            self.say(
                f"the device waited for images during {row['data_wait']:.0f} % of epoch {row['epoch']}: {self.advice}"
            )

    def record(self, name: str, row: dict, text: str = "") -> None:
        """Record what a callback found or did at `row["step"]`; a text also on stdout."""
        self._record("row", name, dict(row), row["step"])
        if text:
            self._record("text", name, text, row["step"])
            self.say(text)

    def result(
        self, scores: Mapping[str, float], step: int, images: Tensor | None = None, titles: Sequence[str] = ()
    ) -> None:
        """Record the end of a run: its scores, and some images with what the model says of them.

        Args:
            scores: of the test split.
            step: the last one.
            images: (N, C, H, W) uint8, or floating point in [0, 1].
            titles: one for each of them.
        """
        self._record("result", scores, step)
        if images is not None and len(images):
            self._record("images", "test images", images, titles, step)

    def clear(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def close(self, outcome: str = "finished") -> None:
        """Remove the bar and close the loggers. `outcome`: finished, stopped or failed."""
        self._bar.close()
        self._record("close", outcome)


class NullLog:
    """In the place of a RunLog in the processes that do not write."""

    def record(self, name: str, row: dict, text: str = "") -> None:
        """Nothing."""

    def step(self, progress: Progress, rates: dict[str, float], sums: Tensor) -> None:
        """Nothing."""

    def epoch(self, row: dict) -> None:
        """Nothing."""

    def result(
        self, scores: Mapping[str, float], step: int, images: Tensor | None = None, titles: Sequence[str] = ()
    ) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing."""

    def close(self, outcome: str = "finished") -> None:
        """Nothing."""


def _duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds where there are no hours: `2 h 05 min`, `7 min 30 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s"


def _waited(row: dict) -> bool:
    """Whether the device waited for images in an epoch more than it should."""
    share = row.get("data_wait", 0.0)
    return share > WAIT_LIMIT and share / 100 * row["seconds"] > WAIT_LEAST
