"""The sections of a configuration, a file for each subject."""

from gcp.config.sections.base import Options, Section
from gcp.config.sections.data import Data
from gcp.config.sections.flow import Flow
from gcp.config.sections.head import Head
from gcp.config.sections.model import Model
from gcp.config.sections.optim import Optim, Schedule
from gcp.config.sections.run import Run
from gcp.config.sections.train import Checkpoint, Evaluate, Train

__all__ = [
    "Checkpoint",
    "Data",
    "Evaluate",
    "Flow",
    "Head",
    "Model",
    "Optim",
    "Options",
    "Run",
    "Schedule",
    "Section",
    "Train",
]
