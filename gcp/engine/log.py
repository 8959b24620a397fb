"""The records of a run: progress bar, table, TensorBoard, `metrics.csv`.

Reading the sums from the device waits for it, so it is done at intervals: every `interval` steps for TensorBoard,
twice a second at most for the bar, which is only there on a terminal; elsewhere a line a minute says how far it is.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gcp.engine.metrics import Columns, CrossEntropy, Objective, heading, line, write_metrics
from gcp.engine.state import Progress

REFRESH = 0.5  # seconds between two updates of the bar
LINES = 60.0  # seconds between two lines where there is no bar
WAIT_LIMIT = 10.0  # percent of an epoch that the device may wait for images before the log says what to do
WAIT_LEAST = 1.0  # seconds of an epoch, below which waiting is not worth a message


class RunLog:
    """Writer of a run folder's records.

    Args:
        folder: the run folder.
        epochs: length of the run.
        total_steps: the same in optimizer steps.
        progress: where the run stands; events and rows after it are dropped.
        interval: steps between two TensorBoard points.
        advice: what to do where the device waits for images (`gcp.data.Loader.advice`).
        further: columns that the printed table has beside the usual ones.
        objective: what is minimised, None for cross-entropy.
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
    ):
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        self.folder, self.epochs, self.interval, self.advice = folder, epochs, interval, advice
        self._board = SummaryWriter(str(folder), purge_step=progress.step + 1)
        self._bar = tqdm(total=total_steps, initial=progress.step, unit="step", disable=None, leave=False)
        self._read = (progress.epoch, progress.loss_sum, progress.count, progress.seconds, progress.waited)
        self._total, self._shown = total_steps, 0.0
        self._since = (time.monotonic(), progress.step)  # of the last line, or of the last epoch
        self._further, self._objective = further, objective or CrossEntropy()
        self._history = list(progress.history)
        if self._history:
            write_metrics(folder / "metrics.csv", self._history)
        else:  # a row may have been written after the checkpoint, or before any
            (folder / "metrics.csv").unlink(missing_ok=True)
        self.say(heading(further, self._objective.table))

    def say(self, text: str) -> None:
        """Print a line on stdout without tearing the bar."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def step(self, progress: Progress, rates: dict[str, float], sums: Tensor) -> None:
        """Record one optimizer step. `sums`: loss and right answers of the epoch so far, on the device."""
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
        self._scalar("step/loss", (loss_sum - loss) / images, progress.step)
        self._scalar("step/images_per_second", images / passed, progress.step)
        self._scalar("step/data_wait", 100 * (progress.waited - waited) / passed, progress.step)
        for part, rate in rates.items():
            self._scalar(f"lr/{part}", rate, progress.step)

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
        write_metrics(self.folder / "metrics.csv", self._history)
        for key, value in row.items():
            if isinstance(value, int | float) and key not in ("epoch", "step"):
                self._scalar(f"epoch/{key}", value, row["step"])
        self._board.flush()
        self._since = (time.monotonic(), row["step"])
        self.say(line(row, self._further, self._objective.table))
        if [past["epoch"] for past in self._history if _waited(past)] == [row["epoch"]]:
            self.say(
                f"the device waited for images during {row['data_wait']:.0f} % of epoch {row['epoch']}: {self.advice}"
            )

    def record(self, name: str, row: dict, text: str = "") -> None:
        """Record what a callback found or did at `row["step"]`: numbers as `NAME/KEY` in TensorBoard, a text there and
        on stdout.
        """
        for key, value in row.items():
            if value is not None and key not in ("epoch", "step"):
                self._scalar(f"{name}/{key}", value, row["step"])
        if text:
            self._board.add_text(name, text, row["step"])
            self.say(text)

    def result(
        self,
        settings: Mapping[str, object],
        scores: Mapping[str, float],
        step: int,
        images: Tensor | None = None,
        titles: Sequence[str] = (),
    ) -> None:
        """Record the end of a run in TensorBoard: its settings beside its scores (HPARAMS), the scores as `test/KEY`,
        and some images with what the model says of them.

        Args:
            settings: by name; others than numbers, texts and switches as text.
            scores: of the test split.
            step: the last one.
            images: (N, C, H, W) uint8, or floating point in [0, 1].
            titles: one for each of them.
        """
        from torch.utils.tensorboard.summary import hparams

        plain = {key: value if isinstance(value, int | float | str) else str(value) for key, value in settings.items()}
        for key, value in scores.items():
            self._scalar(f"test/{key}", value, step)
        # SummaryWriter.add_hparams would begin a further file of events, in a folder of its own.
        writer: Any = self._board.file_writer
        for summary in hparams(plain, {f"test/{key}": value for key, value in scores.items()}):
            writer.add_summary(summary)
        for image, title in zip(() if images is None else images, titles, strict=True):
            self._board.add_image(f"test images/{title}", image, step)

    def clear(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def _scalar(self, name: str, value: float, step: int) -> None:
        self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Remove the bar and finish the event file."""
        self._bar.close()
        self._board.close()


class NullLog:
    """In the place of a RunLog in the processes that do not write."""

    def record(self, name: str, row: dict, text: str = "") -> None:
        """Nothing."""

    def step(self, progress: Progress, rates: dict[str, float], sums: Tensor) -> None:
        """Nothing."""

    def epoch(self, row: dict) -> None:
        """Nothing."""

    def result(
        self,
        settings: Mapping[str, object],
        scores: Mapping[str, float],
        step: int,
        images: Tensor | None = None,
        titles: Sequence[str] = (),
    ) -> None:
        """Nothing."""

    def clear(self) -> None:
        """Nothing."""

    def close(self) -> None:
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
