"""The hybrid protocol: another head pools from a moment of the run on.

The switch lies between two optimizer steps. Reduction, classifier, optimizer state and average stay the very same
tensors. Whether it is due follows from the progress alone, and that it was made is kept in the checkpoint: a run that
is resumed, before the switch or after it, goes on with the head that the uninterrupted run would have.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from gcp.engine.state import Progress, TrainingState


@dataclass(frozen=True)
class Pooling:
    """A head by its name and its options of `gcp.heads.create_head`; `dim` and `reduction` are the model's."""

    name: str
    options: dict[str, Any]

    def put_into(self, model: nn.Module) -> None:
        """Let a Classifier pool with this head."""
        from gcp.models.classifier import exchange_head

        exchange_head(model, self.name, **self.options)  # type: ignore[arg-type]


@dataclass
class Switch:
    """From one head to another, at a step or below a condition number.

    Attributes:
        before: head of the first part of the run.
        after: head of the second part.
        at: optimizer steps of the first part, None with `below`.
        below: bound that the `condition` of an epoch has to fall under, None with `at`.
        why: what asked for `at`, for the log.
        made: the record of the switch, None before: step, epoch, from, to, reason.
    """

    before: Pooling
    after: Pooling
    at: int | None = None
    below: float | None = None
    why: str = ""
    made: dict | None = None

    @property
    def now(self) -> Pooling:
        """The head that pools in the run."""
        return self.after if self.made else self.before

    def make(self, state: TrainingState) -> dict | None:
        """Switch if it is due, to be called before every step. Returns the record of a switch that was made now."""
        progress = state.progress
        reason = None if self.made else self._due(progress)
        if reason is None:
            return None
        self.after.put_into(state.model)
        if state.ema:
            self.after.put_into(state.ema.module)
        place = {"step": progress.step, "epoch": progress.epoch + 1}
        self.made = {**place, "from": self.before.name, "to": self.after.name, "reason": reason}
        return self.made

    def _due(self, progress: Progress) -> str | None:
        """The reason, None where it is not due."""
        if self.at is not None:
            return self.why if progress.step >= self.at else None
        condition = progress.history[-1].get("condition") if progress.history else None
        if self.below is None or condition is None or not condition < self.below:  # NaN is not below
            return None
        return f"condition number {condition:.3g} below {self.below:g}"


def describe_switch(record: dict) -> str:
    """One line for the log."""
    place = f"after step {record['step']}, in epoch {record['epoch']}"
    return f"head {record['from']} -> {record['to']} {place}: {record['reason']}"
