"""The evolution of a run from its section of a configuration, and its records: table, TensorBoard, log and picture."""

import logging
from collections.abc import Mapping

import torch
from torch import nn

from gcp.config import Config
from gcp.data import Splits
from gcp.engine.distributed import ALONE, Group
from gcp.engine.evolution import Calendar, Evolution, describe_edit
from gcp.engine.folder import RunFolder
from gcp.engine.log import RunLog, Silence
from gcp.engine.metrics import write_metrics
from gcp.engine.optimizer import create_optimizer
from gcp.engine.state import TrainingState
from gcp.engine.train import Events
from gcp.errors import OptionError, counted
from gcp.evolve import grow, trace
from gcp.evolve.policy.budget import Bounds, Budget, Costs, amount
from gcp.evolve.policy.policies import BudgetPolicy, Policy, SpectrumPolicy, chosen
from gcp.models import Classifier
from gcp.runs.sample_images import SampleImages
from gcp.runs.timing import Timing

log = logging.getLogger("gcp")


def with_widths(config: Config, widths: Mapping[str, int]) -> Config:
    """The configuration of a model that has come to these widths."""
    return config.model_copy(update={"model": config.model.model_copy(update={"widths": dict(widths)})})


def widths_in(saved: Mapping) -> dict[str, int]:
    """Those that the configuration in a checkpoint names."""
    return dict(saved["config"]["model"].get("widths") or {})


def build_calendar(config: Config, timing: Timing) -> Calendar:
    """When widths are reconsidered. Raises OptionError where that is never."""
    evolve = config.evolve
    assert evolve.every is not None
    calendar = Calendar(*(timing.steps(duration) for duration in (evolve.every, evolve.start, evolve.stop)))
    if not calendar.left(0):
        raise OptionError(
            f"evolve.every: every {calendar.every} steps from step {calendar.start} to {calendar.stop} is never in a "
            f"run of {timing.total} steps. Set another evolve.every, evolve.start or evolve.stop."
        )
    return calendar


def build_evolution(
    config: Config,
    timing: Timing,
    splits: Splits,
    device: torch.device,
    model: Classifier,
    group: Group = ALONE,
) -> Evolution | None:
    """The evolution of a run whose `model` is at its beginning, None where there is none.

    Raises:
        OptionError: it would never take place, nothing can change, the budget is out of reach, or the optimizer cannot
            be carried along.
        UnknownNameError: a place of `evolve.where` that the model does not have.
    """
    evolve, run = config.evolve, config.run
    if evolve.every is None:
        return None
    calendar = build_calendar(config, timing)
    images = SampleImages(config, splits, device, evolve.images, config.evaluate.batch_size)
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
        least = costs({name: bounds.lowest(each.width, each.step) for name, each in changing.items()})
        if bound < least:
            raise OptionError(
                f"evolve.budget: got {evolve.budget}; with every width that may change at evolve.min_width="
                f"{evolve.min_width} the model still costs {amount(least)} {budget.unit}. Set a larger budget, a "
                "smaller evolve.min_width or a wider evolve.where."
            )
        policy = BudgetPolicy(evolve.where, bounds, bound, budget.unit, group.beat)
    order = torch.channels_last if run.channels_last else torch.contiguous_format
    return Evolution(policy, calendar, lambda: list(images), evolve.patience, run.seed, order)


def _rehearse(config: Config) -> None:
    """Edit a small network after a step of the optimizer, so that one whose state cannot be edited is told now."""
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


def attach(
    events: Events,
    evolution: Evolution,
    state: TrainingState,
    group: Group,
    folder: RunFolder,
    journal: RunLog | Silence,
) -> None:
    """Add edits, and what is told of them, to the events of a run. `evolution.csv` is written anew each time, so that a
    resumed run has no row twice, and none from behind its checkpoint.
    """
    begin, columns, progress = events.begin, events.columns, state.progress

    def write() -> None:
        if group.main and progress.evolved:
            write_metrics(folder.evolution, progress.evolved)
        elif group.main:
            folder.evolution.unlink(missing_ok=True)

    def edit() -> None:
        begin()
        if records := evolution.make(state, group):
            for record in records:
                journal.evolve(record, describe_edit(record))
            write()

    write()

    events.begin, events.columns = edit, lambda: columns() | {"parameters": parameters(state.model)}


def parameters(model: nn.Module) -> int:
    """Their number, trained or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def describe(config: Config, timing: Timing, model: nn.Module) -> list[str]:
    """For the introduction of a run; nothing where no width changes."""
    evolve = config.evolve
    if evolve.every is None:
        return []
    calendar, widths = build_calendar(config, timing), chosen(model, trace(model), evolve.where)
    shown = ", ".join(f"{name} {dimension.width}" for name, dimension in list(widths.items())[:6])
    more = f" and {len(widths) - 6} more" if len(widths) > 6 else ""
    goal = f" of {evolve.budget}" if evolve.budget else ""
    return [
        f"evolve     {evolve.policy}{goal}, every {calendar.every} steps from step {calendar.start} to {calendar.stop}",
        f"           {counted(len(widths), 'width')}: {shown}{more}",
    ]


def draw(folder: RunFolder) -> None:
    """The picture of the table; one that cannot be written is told, and costs nothing else."""
    from gcp.drawing.evolution import draw_evolution

    try:
        draw_evolution(folder.evolution, folder.metrics, folder.evolution_curves)
    except OSError as error:
        log.warning("cannot write %s: %s", folder.evolution_curves, error)
