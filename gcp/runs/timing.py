"""When things happen in a run: every duration of a configuration in optimizer steps."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gcp.config import Common, Duration
from gcp.data import BatchLoader
from gcp.engine.schedule import learning_rate_factor
from gcp.engine.train import steps_per_epoch


@dataclass(frozen=True)
class Timing:
    """All durations of a run in optimizer steps, and the learning-rate factor of a step; `steps` turns any other
    duration into steps.
    """

    total: int
    steps: Callable[[Duration], int]
    evaluate_every: int
    save_every: int
    save_seconds: float | None
    factor: Callable[[int], float]


def build_timing(config: Common, loader: BatchLoader) -> Timing:
    """Turn every duration of the configuration into steps of this loader."""
    per_epoch = steps_per_epoch(loader, config.train.accumulate)
    total = per_epoch * config.train.epochs

    def steps(duration: Duration) -> int:
        return duration.to_steps(per_epoch, total)

    by_clock = config.checkpoint.every.unit == "minutes"
    schedule = config.schedule
    factor = partial(
        learning_rate_factor,
        schedule.name,
        total=total,
        warmup=steps(schedule.warmup),
        milestones=tuple(map(steps, schedule.milestones)),
        every=steps(schedule.every),
        gamma=schedule.gamma,
        min_factor=min(1.0, schedule.min_lr / config.optim.lr),
    )
    return Timing(
        total=total,
        steps=steps,
        evaluate_every=steps(config.evaluate.every),
        save_every=0 if by_clock else steps(config.checkpoint.every),
        save_seconds=config.checkpoint.every.seconds if by_clock else None,
        factor=factor,
    )
