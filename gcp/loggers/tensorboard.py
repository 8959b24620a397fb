"""Records as TensorBoard events in the run folder: `tensorboard --logdir runs`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gcp.loggers import LoggedRun, Logger, numbers, plain


@dataclass
class TensorBoard(Logger):
    """`NAME/KEY` for every number, texts, images, and settings beside the scores (HPARAMS). Where a run is resumed,
    what was written after its checkpoint is dropped.
    """

    def start(self, run: LoggedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._settings = run.settings
        self._board = SummaryWriter(str(run.folder), purge_step=run.step + 1)

    def row(self, name: str, row: Mapping[str, Any], step: int) -> None:
        for key, value in numbers(row).items():
            self._board.add_scalar(f"{name}/{key}", value, step)
        if name == "epoch":
            self._board.flush()

    def text(self, name: str, text: str, step: int) -> None:
        self._board.add_text(name, text, step)

    def images(self, name: str, images: Tensor, titles: Sequence[str], step: int) -> None:
        for image, title in zip(images, titles, strict=True):
            self._board.add_image(f"{name}/{title}", image, step)

    def result(self, scores: Mapping[str, float], step: int) -> None:
        """Also the settings, in the same event file: `add_hparams` would begin another, in a folder of its own."""
        from torch.utils.tensorboard.summary import hparams

        self.row("test", scores, step)
        writer: Any = self._board.file_writer
        for summary in hparams(plain(self._settings), {f"test/{key}": value for key, value in scores.items()}):
            writer.add_summary(summary)

    def close(self, outcome: str) -> None:
        self._board.close()
