"""A kind of training: the command, the schema of its configurations, and the run that they describe."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcp.engine.distributed import Group
    from gcp.engine.folder import RunFolder
    from gcp.runs.run import TrainingRun
    from gcp.runs.stages import StagedRun


@dataclass(frozen=True)
class Task:
    """A kind of run. Its functions import what they need when they are called, so that --help is quick.

    Attributes:
        command: that trains it, after `gcp`.
        example: a configuration to begin with.
        load_schema: () -> the class of a configuration.
        check: refuses a configuration that cannot be begun, before there is a folder.
        stem: of a configuration, the name of a run folder up to its number.
        build: the run of a configuration in a folder.
        complete: the configuration with what is settled when a run begins, before it is written to the folder.
    """

    command: str
    example: str
    load_schema: Callable[[], type[Any]]
    check: Callable[[Any], None]
    stem: Callable[[Any], str]
    build: "Callable[[Any, RunFolder, Group], TrainingRun[Any] | StagedRun]"
    complete: Callable[[Any], Any] = lambda config: config

    @property
    def schema(self) -> type[Any]:
        """The class of a configuration."""
        return self.load_schema()


def _schema() -> type[Any]:
    from gcp.config import Config

    return Config


def _check(config: Any) -> None:
    if isinstance(config.model.pretrained, bool):
        return
    from gcp.runs.pretrained import check_pretrained

    check_pretrained(config)


def _stem(config: Any) -> str:
    from gcp.runs.build import run_stem

    return run_stem(config)


def _build(config: Any, folder: "RunFolder", group: "Group") -> "TrainingRun[Any] | StagedRun":
    if config.stages:
        from gcp.runs.stages import StagedRun

        return StagedRun(config, folder, group)
    from gcp.runs.classifier import ClassifierRun

    return ClassifierRun(config, folder, group=group)


def _complete(config: Any) -> Any:
    from gcp.runs.build import with_preprocessing

    return with_preprocessing(config)


CLASSIFIER = Task("train", "digits/resnet", _schema, _check, _stem, _build, _complete)
