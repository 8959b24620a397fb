"""Widths that change, in a run, and their records: table, TensorBoard, log and picture."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gcp.callbacks.base import RunCallback, RunContext
from gcp.callbacks.evolution.evolution import EditCalendar, Evolution, describe_edit
from gcp.config import Config, Duration
from gcp.engine.log import NullLog, RunLog
from gcp.engine.metrics import Columns, write_metrics
from gcp.engine.optimizer import create_optimizer
from gcp.engine.sample_images import SampleImages
from gcp.engine.state import TrainingState
from gcp.engine.step import Window
from gcp.errors import OptionError, counted
from gcp.evolve import grow, resize, trace, widths
from gcp.evolve.policy.budget import Bounds, Budget, Costs, amount
from gcp.evolve.policy.policies import BudgetPolicy, Policy, SpectrumPolicy, chosen

TABLE, PICTURE = "evolution.csv", "evolution.png"


def build_calendar(config: Config, steps: Callable[[Duration], int], total: int) -> EditCalendar:
    """When widths are reconsidered. Raises OptionError where that is never."""
    evolve = config.evolve
    assert evolve.every is not None
    calendar = EditCalendar(*(steps(duration) for duration in (evolve.every, evolve.start, evolve.stop)))
    if not calendar.left(0):
        raise OptionError(
            f"evolve.every: every {calendar.every} steps from step {calendar.start} to {calendar.stop} is never in a "
            f"run of {total} steps. Set another evolve.every, evolve.start or evolve.stop."
        )
    return calendar


def build_evolution(config: Config, run: RunContext) -> Evolution:
    """The evolution of a run whose model is at its beginning.

    Raises:
        OptionError: it would never take place, nothing can change, the budget is out of reach, or the optimizer cannot
            be carried along.
        UnknownNameError: a place of `evolve.where` that the model does not have.
    """
    evolve, model = config.evolve, run.state.model
    calendar = build_calendar(config, run.steps, run.total)
    batch, order = config.evaluate.batch_size, config.run.channels_last
    images = SampleImages(run.splits.train, evolve.images, batch, run.device, order)
    image = next(iter(images))[:1]
    _rehearse(config)
    dimensions = trace(model, image)
    changing = chosen(model, dimensions, evolve.where)
    bounds = Bounds(evolve.min_width, evolve.max_width, evolve.factor)
    policy: Policy = SpectrumPolicy(evolve.where, bounds, evolve.signal, evolve.shrink_below, evolve.grow_above)
    if evolve.budget is not None:
        budget = Budget.parse(evolve.budget)
        costs = Costs(model, dimensions, image, budget.unit)
        bound = budget.of(costs({}))
        least = costs({name: bounds.of(each).lowest(each.width, each.step) for name, each in changing.items()})
        if bound < least:
            raise OptionError(
                f"evolve.budget: got {evolve.budget}; with every width that may change at evolve.min_width="
                f"{evolve.min_width} the model still costs {amount(least)} {budget.unit}. Set a larger budget, a "
                "smaller evolve.min_width or a wider evolve.where."
            )
        policy = BudgetPolicy(evolve.where, bounds, bound, budget.unit, run.group.heartbeat)
    return Evolution(policy, calendar, lambda: list(images), evolve.patience, config.run.seed, memory_format(config))


def memory_format(config: Config) -> torch.memory_format:
    """Order of the weights in memory."""
    return torch.channels_last if config.run.channels_last else torch.contiguous_format


def _rehearse(config: Config) -> None:
    """Edit a small network after a step of the optimizer, so that one whose state cannot be edited is refused now."""
    optim = config.optim
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))  # small matrices are no test for some
    groups = [{"name": "all", "params": list(model.parameters())}]
    optimizer = create_optimizer(groups, optim.name, optim.lr, optim.momentum, optim.weight_decay, optim.nesterov)
    images = torch.ones(2, 256)
    model(images).sum().backward()
    optimizer.step()
    (name,) = (name for name, dimension in trace(model, images).items() if dimension.editable)
    try:
        grow(model, name, 260, optimizer=optimizer, example=images)
    except OptionError as error:
        raise OptionError(f"optim.name: {optim.name} cannot train widths that change: {error}") from error


class EvolveWidths(RunCallback):
    """Layers grow and shrink between steps."""

    name = "evolution"
    table: Columns = (("parameters", "parameters", 12, ",d"),)  # type: ignore[assignment]

    def setup(self, run: RunContext) -> None:
        self.run, self.evolution = run, build_evolution(self.config, run)

    def describe(self) -> list[str]:
        evolve, calendar, model = self.config.evolve, self.evolution.calendar, self.run.state.model
        found = chosen(model, trace(model), evolve.where)
        shown = ", ".join(f"{name} {dimension.width}" for name, dimension in list(found.items())[:6])
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        goal = f" of {evolve.budget}" if evolve.budget else ""
        times = f"every {calendar.every} steps from step {calendar.start} to {calendar.stop}"
        return [
            f"evolve     {evolve.policy}{goal}, {times}",
            f"           {counted(len(found), 'width')}: {shown}{more}",
        ]

    def start(self, state: TrainingState) -> None:
        self._write()

    def before_step(self, state: TrainingState, window: Window, log: RunLog | NullLog) -> None:
        if records := self.evolution.make(state, self.run.group):
            for record in records:
                row = {"step": record["step"], record["dimension"]: record["after"]}
                log.record("width", row | {"parameters": record["parameters"]}, describe_edit(record))
            self._write()

    def _write(self) -> None:
        """Anew each time, so that a resumed run has no row twice, and none from after its checkpoint."""
        path = self.run.folder / TABLE
        if self.run.group.main and self.evolution.edits:
            write_metrics(path, self.evolution.edits)
        elif self.run.group.main:
            path.unlink(missing_ok=True)

    def columns(self, state: TrainingState) -> dict:
        return {"parameters": parameters(state.model)}

    def scores(self, model: nn.Module) -> dict:
        return {"parameters": parameters(model)}

    def settings(self, model: nn.Module) -> dict[str, dict]:
        return {"model": {"widths": widths(model)}}

    def kept(self, saved: dict) -> dict:
        edits = saved.get("progress", {}).get("evolved", [])  # of older checkpoints
        return super().kept(saved) or {"edits": edits}

    def adapt(self, model: nn.Module, saved: dict) -> None:
        wanted = dict(saved["config"]["model"].get("widths") or {})
        arguments: Any = getattr(model, "arguments", {})
        if wanted != dict(arguments.get("widths") or {}):
            resize(model, wanted)
            model.to(memory_format=memory_format(self.config))  # type: ignore[call-overload]

    def state_dict(self) -> dict:
        return {"edits": self.evolution.edits}

    def load_state_dict(self, state: dict) -> None:
        self.evolution.edits = list(state.get("edits", []))

    def close(self, folder: Path) -> None:
        if not self.run.group.main:
            return
        from gcp.callbacks.evolution.plot import draw

        try:
            draw(folder / TABLE, folder / "metrics.csv", folder / PICTURE)
        except OSError as error:  # costs nothing else
            logging.getLogger("gcp").warning("cannot write %s: %s", folder / PICTURE, error)


def parameters(model: nn.Module) -> int:
    """Their number, trained or not."""
    return sum(parameter.numel() for parameter in model.parameters())
