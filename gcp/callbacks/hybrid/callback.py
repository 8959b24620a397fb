"""The hybrid protocol in a run: which heads, when, and the measured condition number."""

from collections.abc import Callable

from torch import nn

from gcp.callbacks.base import RunCallback, RunContext
from gcp.callbacks.hybrid.condition import condition_number
from gcp.callbacks.hybrid.switch import Pooling, Switch, describe_switch
from gcp.config import Config, Duration
from gcp.config.values import Options
from gcp.engine.log import NullLog, RunLog
from gcp.engine.metrics import Columns
from gcp.engine.sample_images import SampleImages
from gcp.engine.state import TrainingState
from gcp.engine.step import Window
from gcp.errors import OptionError

PROBE = 64  # validation images on which the condition number is measured


def pooling_of(section: Options) -> Pooling:
    """The head that a section names."""
    given = section.arguments
    options = {key: given[key] for key in ("side", "form", "precision")} | section.options
    return Pooling(str(section.head), options)


def switch_step(config: Config, steps: Callable[[Duration], int], total: int) -> int | None:
    """Optimizer steps before the other head pools; None where its moment is no duration.

    Args:
        config: of the run.
        steps: a duration in steps.
        total: steps of the run.

    Raises:
        OptionError: it would be before the first step or after the last.
    """
    at, schedule = config.hybrid.at, config.schedule
    if at is None:
        return None
    if isinstance(at, Duration):
        step = steps(at)
    elif schedule.name == "multistep":
        step = steps(schedule.milestones[-1])
    else:
        step = (total - 1) // steps(schedule.every) * steps(schedule.every)
    if not 0 < step < total:
        raise OptionError(f"hybrid.at: {at} is step {step} of a run of {total} steps. Set another hybrid.at.")
    return step


def probe_images(config: Config, run: RunContext) -> SampleImages:
    """Those on which the condition number is measured, the same at every call."""
    if not len(run.splits.val):
        raise OptionError(
            "hybrid.condition_below is measured on validation images, and data.val_fraction=0 holds none out. Set "
            "hybrid.at, or a data.val_fraction above 0."
        )
    batch, order = config.evaluate.batch_size, config.run.channels_last
    return SampleImages(run.splits.val, PROBE, batch, run.device, order)


class SwitchHead(RunCallback):
    """Another head pools from a step of the run on, or once the condition number is below a bound."""

    name = "hybrid"

    def __init__(self, config: Config):
        super().__init__(config)
        section = config.hybrid
        before, after = pooling_of(config.head), pooling_of(section)
        self.switch = Switch(before, after, below=section.condition_below, why=f"hybrid.at: {section.at}")
        self._adapted = self.switch.now  # head of the model that was adapted or switched last
        self._condition: float | None = None

    def setup(self, run: RunContext) -> None:
        self.switch.at = switch_step(self.config, run.steps, run.total)
        self.group = run.group
        self.images = probe_images(self.config, run) if self.switch.below else None

    @property
    def table(self) -> Columns:
        condition = ("condition", "condition", 11, ".2e")
        return (*([condition] if self.images else []), ("head", "head", 17, "s"))

    def describe(self) -> list[str]:
        switch, hybrid = self.switch, self.config.hybrid
        if switch.made:
            return [f"hybrid     {describe_switch(switch.made)}"]
        if switch.at is not None:
            return [f"hybrid     {hybrid.to} after step {switch.at} ({hybrid.at})"]
        return [f"hybrid     {hybrid.to} once the condition number is below {switch.below:g}"]

    def before_step(self, state: TrainingState, window: Window, log: RunLog | NullLog) -> None:
        if record := self.switch.make(state):
            self._adapted = self.switch.after
            log.record("head", {"step": record["step"] + 1}, describe_switch(record))  # the first step with it

    def end_epoch(self, state: TrainingState) -> None:
        if self.images:  # measured once, so that all processes decide on the same number
            measured = condition_number(state.model, self.images) if self.group.main else None
            self._condition = self.group.broadcast(measured)

    def columns(self, state: TrainingState) -> dict:
        return ({"condition": self._condition} if self.images else {}) | {"head": self.switch.now.name}

    def scores(self, model: nn.Module) -> dict:
        return {"head": self._adapted.name}

    def kept(self, saved: dict) -> dict:
        record = saved.get("switched") or saved.get("progress", {}).get("switched")  # of older checkpoints
        return super().kept(saved) or {"switched": record}

    def adapt(self, model: nn.Module, saved: dict) -> None:
        self._adapted = self.switch.after if self.kept(saved).get("switched") else self.switch.before
        self._adapted.put_into(model)

    def state_dict(self) -> dict:
        return {"switched": self.switch.made}

    def load_state_dict(self, state: dict) -> None:
        self.switch.made = state.get("switched")
