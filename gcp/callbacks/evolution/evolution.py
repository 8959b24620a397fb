"""Widths that change during a run: what a policy decides is done to the model, its average and its optimizer.

Edits lie between two optimizer steps, before the step that follows them. Whether they are due follows from the progress
alone; what is measured are the same images every time, and what is drawn is a function of seed and step. A run that is
resumed therefore makes the very edits that the uninterrupted run would. Checkpoints are taken behind a step: none is
between edits, and a kill between an edit and the next checkpoint repeats it.

In several processes rank 0 decides, all of them edit, and then have the tensors of rank 0.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gcp.engine import rng
from gcp.engine.batch_norm import running_statistics
from gcp.engine.distributed import ALONE, Group
from gcp.engine.state import TrainingState
from gcp.evolve import grow, shrink
from gcp.evolve.policy.budget import Decision
from gcp.evolve.policy.policies import Policy


@dataclass(frozen=True)
class EditCalendar:
    """The optimizer steps behind which widths are reconsidered: multiples of `every` from `start` to `stop`, but 0."""

    every: int
    start: int
    stop: int

    def due(self, step: int) -> bool:
        """Whether it is such a step."""
        return step > 0 and self.start <= step <= self.stop and step % self.every == 0

    def left(self, step: int) -> int:
        """How many there are from `step` on, itself included."""
        return len(range(max(1, -(-max(self.start, step) // self.every)), self.stop // self.every + 1))


@dataclass
class Evolution:
    """The widths of a run.

    Attributes:
        policy: (model, images, events left) -> decisions.
        calendar: when it is asked.
        images: () -> batches (B, C, H, W) as the model takes them, on its device, the same at every call.
        patience: events before a width may turn back: channels that are new are weak at first, and would be taken for
            superfluous.
        seed: of what new channels begin with.
        memory_format: of the model's weights.
        edits: the records of those that were made, see `make`.
    """

    policy: Policy
    calendar: EditCalendar
    images: Callable[[], Sequence[Tensor]]
    patience: int = 0
    seed: int = 0
    memory_format: torch.memory_format = torch.contiguous_format
    edits: list[dict] = field(default_factory=list)

    def make(self, state: TrainingState, group: Group = ALONE) -> list[dict]:
        """Edit if it is due, to be called before every step. Returns the records of the edits that were made now:
        step, epoch, dimension, before, after, error (relative, of the outputs), parameters before and after, why.
        """
        progress = state.progress
        if not self.calendar.due(progress.step):
            return []
        images = self.images()
        group.heartbeat()
        rng.seed_step(self.seed, progress.step)
        with running_statistics(state.model):
            decisions = self.policy(state.model, images, self.calendar.left(progress.step)) if group.main else None
            decisions = group.broadcast(decisions) or []
            due = [decision for decision in decisions if not self._turns_back(progress.step, decision)]
            records = [self._edit(state, decision, images, group) for decision in due]
        if records:
            for model in _models(state):
                model.to(memory_format=self.memory_format)  # type: ignore[call-overload]
            _broadcast(group, _tensors(state))
            state.version += 1
            self.edits.extend(records)
        return records

    def _turns_back(self, step: int, decision: Decision) -> bool:
        """Whether it takes back an edit too early."""
        since = step - self.patience * self.calendar.every
        grows = decision.after > decision.before
        own = (record for record in reversed(self.edits) if record["dimension"] == decision.dimension)
        last = next(own, None)
        return last is not None and last["step"] >= since and (last["after"] > last["before"]) != grows

    def _edit(self, state: TrainingState, decision: Decision, images: Sequence[Tensor], group: Group) -> dict[str, Any]:
        name, before, after, why = decision
        change = grow if after > before else shrink
        ema = state.ema.module if state.ema else None
        report = change(
            state.model, name, after, images=images, optimizer=state.optimizer, ema=ema, example=images[0]
        )  # fmt: skip
        group.heartbeat()
        return {
            "step": state.progress.step,
            "epoch": state.progress.epoch + 1,
            "dimension": name,
            "before": report.before,
            "after": report.after,
            "error": report.error,
            "parameters_before": report.parameters_before,
            "parameters": report.parameters_after,
            "why": why,
        }


def _models(state: TrainingState) -> list[nn.Module]:
    return [state.model, *([state.ema.module] if state.ema else [])]


def _tensors(state: TrainingState) -> Iterator[Tensor]:
    """What the processes have to have alike: weights, buffers, averages and the state of the optimizer."""
    for model in _models(state):
        yield from (parameter.data for parameter in model.parameters())
        yield from model.buffers()
    for group in state.optimizer.param_groups:
        for parameter in group["params"]:
            values = state.optimizer.state.get(parameter, {}).values()  # asking by [] would make an entry
            yield from (value for value in values if isinstance(value, Tensor))


def _broadcast(group: Group, tensors: Iterable[Tensor]) -> None:
    for tensor in tensors if group.world > 1 else ():
        whole = tensor.contiguous()  # an exchange takes no other order
        group.broadcast_tensors([whole])
        tensor.copy_(whole)


def describe_edit(record: dict) -> str:
    """One line for the log."""
    place = f"after step {record['step']}, in epoch {record['epoch']}"
    return (
        f"width {record['dimension']} {record['before']} -> {record['after']} {place}: {record['why']}; output error "
        f"{record['error']:.2g}, {record['parameters']:,} parameters"
    )
