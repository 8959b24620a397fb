"""A callback that is made from a configuration, and what it is given of its run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gcp.config import Config, Duration
from gcp.config.plugins import plugins
from gcp.data import Splits
from gcp.engine.callback import Callback
from gcp.engine.device import ToDevice
from gcp.engine.distributed import Group
from gcp.engine.state import TrainingState
from gcp.engine.step import StepOptions


@dataclass(frozen=True)
class RunContext:
    """A run that is built and has not begun.

    Attributes:
        folder: of the run; need not be there yet.
        splits: the data set.
        state: model and optimizer as they are built, before a checkpoint is loaded.
        step_options: how a step is made.
        to_device: brings batches to the device.
        steps: turns a duration into optimizer steps.
        total: optimizer steps of the run.
        device: where it computes.
        group: its processes.
    """

    folder: Path
    splits: Splits
    state: TrainingState
    step_options: StepOptions
    to_device: ToDevice
    steps: Callable[[Duration], int]
    total: int
    device: torch.device
    group: Group


class RunCallback(Callback):
    """A callback of a run. `__init__` takes the configuration alone, which is enough to `adapt` a model to a
    checkpoint; `setup` prepares it for a run.
    """

    def __init__(self, config: Config):
        self.config = config

    def setup(self, run: RunContext) -> None:
        """Prepare for the run.

        Raises:
            OptionError: what was asked for is not possible in it.
        """


def create_callbacks(config: Config) -> list[RunCallback]:
    """The callbacks that a configuration asks for, in the order in which they are called."""
    return [plugin.build(config) for plugin in plugins() if plugin.wanted(config)]
