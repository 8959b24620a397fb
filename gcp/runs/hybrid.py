"""The hybrid protocol from its section of a configuration: which heads, when, and the measured condition number."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from gcp.config import Config, Duration
from gcp.data import Splits, StreamSet, create_loader
from gcp.engine.condition import condition_number
from gcp.engine.feed import Feed
from gcp.engine.switch import Pooling, Switch
from gcp.errors import OptionError

PROBE = 64  # validation images on which the condition number is measured


def build_pooling(config: Config, switched: object = None) -> Pooling:
    """The head of a run; with the `switched` of a progress or a checkpoint the one that it switched to."""
    section, name = (config.hybrid, config.hybrid.to) if switched else (config.head, config.head.name)
    assert name is not None  # nothing switches where hybrid.to is null
    return Pooling(name, {"side": section.side, "form": section.form, "precision": section.precision} | section.options)


def switch_step(config: Config, steps: Callable[[Duration], int], total: int) -> int | None:
    """Optimizer steps before the other head pools; None where there is none, or its moment is no duration.

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


def build_switch(config: Config, at: int | None) -> Switch | None:
    """The switch of a run, after `at` steps or below the bound of the configuration; None where there is none."""
    hybrid = config.hybrid
    if hybrid.to is None:
        return None
    before, after = build_pooling(config), build_pooling(config, switched=True)
    return Switch(before, after, at, hybrid.condition_below, why=f"hybrid.at: {hybrid.at}")


class Probe:
    """Measures the condition number on `PROBE` validation images, the same at every call: evenly spread over the
    split, of a stream the first ones.
    """

    def __init__(self, config: Config, splits: Splits, device: torch.device):
        images = splits.val
        if not len(images):
            raise OptionError(
                "hybrid.condition_below is measured on validation images, and data.val_fraction=0 holds none out. Set "
                "hybrid.at, or a data.val_fraction above 0."
            )
        self.count = count = min(PROBE, len(images))
        if not isinstance(images, StreamSet):
            images = images.subset([place * len(images) // count for place in range(count)])
        self.loader = create_loader(images, min(count, config.evaluate.batch_size), train=False, workers=0)
        self.feed = Feed(device, self.loader.normalize, config.run.channels_last)

    def __call__(self, model: nn.Module) -> float:
        """See `gcp.engine.condition`."""
        return condition_number(model, self._images())

    def _images(self) -> Iterator[Tensor]:
        left = self.count
        for images, labels in self.loader.epoch(0):
            yield self.feed(images[:left], labels[:left])[0]
            left -= len(images)
            if left <= 0:
                return
