"""When and where widths change, and that there is something for them to change."""

from collections.abc import Iterator

from gcp.callbacks.evolution.section import Evolve
from gcp.config.faults import Fault, wrong
from gcp.config.schema import Config
from gcp.config.values import Duration, shorter_than_run
from gcp.errors import OptionError


def evolve_faults(config: Config) -> Iterator[Fault]:
    """What is wrong with the section `evolve`; names of dimensions are checked when the model is there."""
    evolve = config.evolve
    if evolve.every is None:
        return
    yield from _times(config, evolve.every)
    yield from _places(config)
    if evolve.max_width is not None and evolve.max_width < evolve.min_width:
        allowed = f"a whole number >= evolve.min_width, {evolve.min_width}, or null"
        yield wrong("evolve.max_width", evolve.max_width, allowed, needs=("evolve.min_width",))
    if evolve.policy == "spectrum":
        if evolve.shrink_below >= evolve.grow_above:
            allowed = f"a number < evolve.grow_above, {evolve.grow_above:g}, else a width shrinks and grows in turn"
            yield wrong("evolve.shrink_below", evolve.shrink_below, allowed, needs=("evolve.grow_above",))
    else:
        yield from _budget(evolve)


def _times(config: Config, every: Duration) -> Iterator[Fault]:
    evolve, epochs = config.evolve, config.train.epochs
    late = [
        (key, each) for key, each in (("every", every), ("start", evolve.start)) if not shorter_than_run(each, epochs)
    ]
    if late:
        for key, value in late:
            allowed = f"shorter than the run of {epochs} epochs"
            yield wrong(f"evolve.{key}", str(value), allowed, needs=("train.epochs",))
        return
    if evolve.stop.unit == evolve.start.unit and evolve.stop.amount <= evolve.start.amount:
        yield wrong("evolve.stop", str(evolve.stop), f"after evolve.start, {evolve.start}", needs=("evolve.start",))
    elif evolve.stop.unit == every.unit and evolve.stop.amount < every.amount:
        yield wrong("evolve.stop", str(evolve.stop), f"at least evolve.every, {every}", needs=("evolve.every",))


def _places(config: Config) -> Iterator[Fault]:
    frozen, where = config.model.freeze, config.evolve.where
    left = [name for name in where if not any(name == part or name.startswith(f"{part}.") for part in frozen)]
    if where and not left:
        allowed = f"a part that is trained; model.freeze has {', '.join(frozen)}"
        yield wrong("evolve.where", where, allowed, needs=("model.freeze",))


def _budget(evolve: Evolve) -> Iterator[Fault]:
    from gcp.evolve.policy.budget import Budget

    if evolve.budget is None:
        allowed = "a cost with evolve.policy: budget, such as 20k parameters or 25 % flops"
        yield wrong("evolve.budget", None, allowed, needs=("evolve.policy",))
        return
    try:
        Budget.parse(evolve.budget)
    except OptionError as error:
        yield Fault("evolve.budget", str(error))
