"""The state of a training: model, optimizer, averaged weights and progress; all of it goes into a checkpoint."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from typing import cast

import torch
from torch import nn

from gcp.errors import CheckpointError, OptionError


@dataclass
class Progress:
    """Where a run stands. Sums cover the part of the present epoch that is done.

    Attributes:
        step: optimizer steps made.
        epoch: epochs finished, which is the index of the present one.
        batch: batches of the present epoch that have been used.
        loss_sum: sum of the training losses of the present epoch's samples.
        correct: of these samples, how many were right.
        count: how many samples they are.
        seconds: time spent on them, without evaluation.
        waited: of these seconds, those in which the device waited for images.
        validation: scores of the newest evaluation of the present epoch.
        best: scores of the best evaluation so far, with its `step` and `epoch`.
        history: one row per finished epoch.
        callbacks: what a checkpoint keeps of each callback, by its name (`gcp.engine.callback`).
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    count: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    validation: dict | None = None
    best: dict | None = None
    history: list[dict] = field(default_factory=list)
    callbacks: dict[str, dict] = field(default_factory=dict)

    @classmethod
    def of(cls, saved: Mapping) -> "Progress":
        """From a checkpoint; fields of older versions, which callbacks read themselves, are left out."""
        return cls(**{each.name: saved[each.name] for each in fields(cls) if each.name in saved})

    def start_epoch(self) -> None:
        """Count the present epoch as finished and clear its sums."""
        self.epoch += 1
        self.batch = self.count = 0
        self.loss_sum = self.correct = self.seconds = self.waited = 0.0
        self.validation = None

    def improve(self, scores: dict) -> bool:
        """Take `scores` as the best so far if they are: higher top-1, or the same (or none) at a lower loss."""
        if self.best and _rank(scores) <= _rank(self.best):
            return False
        self.best = {**scores, "step": self.step, "epoch": self.epoch + 1}
        return True


def _rank(scores: dict) -> tuple[float, float]:
    return scores.get("top1", 0.0), -scores["loss"]


class EMA:
    """Exponential moving average of the weights: a frozen copy of a model, which is evaluated in its place.

        w_ema <- w_ema + (1 - d_t) (w - w_ema),      d_t = min(decay, (1 + t) / (10 + t))

    at optimizer step t = 0, 1, ... The ramp lets a short run forget its first weights. Buffers (batch-norm statistics)
    are copied, not averaged: they are averages already.
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 < decay < 1:
            raise OptionError(f"ema: a decay between 0 and 1 is needed, got {decay}")
        self.decay = decay
        self.module = deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Follow `model` after optimizer step `step` (0 for the first)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)


@dataclass
class TrainingState:
    """Model, optimizer, average, loss scale and progress of one run. `version` counts how often the parameters of the
    model have been replaced by others.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: EMA | None = None
    progress: Progress = field(default_factory=Progress)
    version: int = 0

    @property
    def num_classes(self) -> int:
        """Width of the logits, an attribute of every classifier; 0 for a model without classes."""
        return cast(int, getattr(self.model, "num_classes", 0))

    @property
    def evaluated(self) -> nn.Module:
        """The module whose scores count: the averaged one where there is one."""
        return self.ema.module if self.ema else self.model

    def state_dict(self) -> dict:
        """Tensors and plain Python."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": asdict(self.progress),
        }

    def load_state_dict(self, state: dict, source: str = "the checkpoint") -> None:
        """Put everything back.

        Raises:
            CheckpointError: the checkpoint is of another model or another optimizer, or holds weights only.
        """
        if missing := [key for key in ("optimizer", "scaler", "progress") if key not in state]:
            raise CheckpointError(
                f"{source} cannot be continued: it has no {', '.join(missing)}. Resume from last.pt; "
                "best.pt holds weights only."
            )
        load_weights(self.model, state["model"], source)
        if self.ema:
            load_weights(self.ema.module, state["ema"] or state["model"], source)
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"{source}: the state of another optimizer: {error}") from error
        self.scaler.load_state_dict(state["scaler"])
        self.progress = Progress.of(state["progress"])


def load_weights(model: nn.Module, weights: dict, source: str) -> None:
    """Load a state dict whose names and shapes have to fit.

    Raises:
        CheckpointError: they do not; the message lists what differs.
    """
    own = model.state_dict()
    faults = [f"missing {key}" for key in own if key not in weights]
    faults += [f"not in the model: {key}" for key in weights if key not in own]
    faults += [
        f"{key}: {tuple(weights[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    if faults:
        more = f"; and {len(faults) - 6} more" if len(faults) > 6 else ""
        raise CheckpointError(f"{source} is of another model: {'; '.join(faults[:6])}{more}")
    model.load_state_dict(weights)
