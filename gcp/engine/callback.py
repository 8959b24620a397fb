"""The interface of a callback: what a feature of a run does around the steps of the training loop.

    adapt, load_state_dict  ->  start  ->  [ before_step  ->  after_step ] ...  ->  end_epoch, columns  ->  close

The loop calls the callbacks of a run in order and knows none of them by name. All processes of a run have the same
callbacks, and every method is called in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from gcp.engine.metrics import Columns

if TYPE_CHECKING:
    from gcp.engine.log import NullLog, RunLog
    from gcp.engine.state import TrainingState
    from gcp.engine.step import Window


class Callback:
    """Does nothing; a subclass overrides the methods that it needs.

    Attributes:
        name: under which a checkpoint keeps the state, in `Progress.callbacks`.
    """

    name: ClassVar[str] = ""

    @property
    def table(self) -> Columns:
        """The `columns` that are also printed in the table."""
        return ()

    def describe(self) -> list[str]:
        """Lines for the start of the run."""
        return []

    def start(self, state: TrainingState) -> None:
        """Before the first step of this process; `state` is that of the checkpoint where the run is resumed."""

    def before_step(self, state: TrainingState, window: Window, log: RunLog | NullLog) -> None:
        """Before the step with the batches of `window`. Random states may change, they are seeded after it."""

    def after_step(self, state: TrainingState, sums: Tensor, log: RunLog | NullLog) -> None:
        """After a step. `sums`: loss and right answers of the epoch so far, on the device."""

    def end_epoch(self, state: TrainingState) -> None:
        """Before the row of the epoch that ends is made."""

    def columns(self, state: TrainingState) -> dict:
        """Further columns of the row of the epoch that ends."""
        return {}

    def scores(self, model: nn.Module) -> dict:
        """Further values beside the scores of `model`."""
        return {}

    def settings(self, model: nn.Module) -> dict[str, dict]:
        """The settings, by section, that build `model` with its present shapes. A checkpoint stores them in place of
        those of the configuration.
        """
        return {}

    def kept(self, saved: dict) -> dict:
        """What a checkpoint keeps of this callback, empty where it keeps nothing."""
        return saved.get("callbacks", {}).get(self.name, {})

    def adapt(self, model: nn.Module, saved: dict) -> None:
        """Give `model` the shape that it has in a checkpoint, before the weights are loaded."""

    def state_dict(self) -> dict:
        """What a checkpoint keeps: tensors and plain Python."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Put back what `state_dict` gave; an empty dictionary is a run that has not begun."""

    def close(self, folder: Path) -> None:
        """The end of the run, also after a fault; `folder` is the run's."""


def state_dicts(callbacks: Iterable[Callback]) -> dict[str, dict]:
    """What a checkpoint keeps of each callback, by name; those that keep nothing are left out."""
    return {callback.name: kept for callback in callbacks if (kept := callback.state_dict())}
