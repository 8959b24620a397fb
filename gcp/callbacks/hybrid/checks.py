"""When a run switches its head, and that the other head fits where the first one was."""

from collections.abc import Iterator

from gcp.config.checks import unfit
from gcp.config.faults import Fault, wrong
from gcp.config.schema import Config
from gcp.config.values import Duration, shorter_than_run
from gcp.errors import nearest

DECAYS = ("multistep", "step")  # schedules with a last decay


def hybrid_faults(config: Config) -> Iterator[Fault]:
    """What is wrong with the section beside the other head's own options."""
    hybrid = config.hybrid
    if hybrid.to is None:
        for key in hybrid.options:
            text = "an option of a head, but there is no switch: hybrid.to is null"
            yield Fault(f"hybrid.{key}", text, ("hybrid.to",), removable=True)
        return
    yield from _other_head(config, hybrid.to)
    yield from _moment(config)


def _other_head(config: Config, to: str) -> Iterator[Fault]:
    import gcp.heads

    names = list(gcp.heads.list_heads("*"))
    if to not in names:
        close = nearest(to, names)
        yield wrong("hybrid.to", to, f"{', '.join(names)} (--list heads), or null", [close] if close else [])
        return
    if config.head.name not in names:
        return
    needs = ("head.name", "head.dim")
    if allowed := unfit(config.head, to, config.hybrid):
        yield wrong("hybrid.to", to, allowed, needs=needs)
    same = config.head.arguments
    if to == config.head.name and all(same.get(key) == value for key, value in config.hybrid.arguments.items()):
        yield wrong("hybrid.to", to, "another head than head.name, or other options of it", needs=needs)


def _moment(config: Config) -> Iterator[Fault]:
    hybrid, schedule, epochs = config.hybrid, config.schedule, config.train.epochs
    if (hybrid.at is None) == (hybrid.condition_below is None):
        both = hybrid.at is not None
        text = "one of hybrid.at and hybrid.condition_below, the other null"
        yield wrong("hybrid.at", str(hybrid.at) if both else None, text, needs=("hybrid.condition_below",))
        return
    if hybrid.at == "last_decay":
        if schedule.name not in DECAYS:
            allowed = f"a duration with schedule.name: {schedule.name}, which has no last decay"
            yield wrong("hybrid.at", hybrid.at, allowed, needs=["schedule.name"], keys=["schedule.name=multistep"])
            return
        decay = schedule.milestones[-1:] if schedule.name == "multistep" else (schedule.every,)
        if decay and not shorter_than_run(decay[0], epochs):
            allowed = f"a moment of the run of {epochs} epochs, but the last decay is at {decay[0]}"
            needs = ("train.epochs", "schedule.milestones", "schedule.every")
            yield wrong("hybrid.at", hybrid.at, allowed, needs=needs)
    elif isinstance(hybrid.at, Duration) and not shorter_than_run(hybrid.at, epochs):
        yield wrong("hybrid.at", str(hybrid.at), f"shorter than the run of {epochs} epochs", needs=("train.epochs",))
