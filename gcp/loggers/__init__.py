"""Where the records of a run go: metrics.csv, TensorBoard, experiment trackers, or a class of your own.

    log.to=[tensorboard, wandb]          # names of LOGGERS, several at once; metrics.csv is always written
    log.options.wandb.mode=offline       # the options of one of them
    log.to=[mine:Slack]                  # MODULE:CLASS of your own, a subclass of Logger

A logger only receives what the run has anyway: it reads nothing from the device, and the random state is put back after
each of its calls, so the weights have the same bits with any of them. One that raises is switched off with a warning,
and the run goes on.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gcp.command import install
from gcp.errors import OptionError, suggest
from gcp.options import build
from gcp.registry import Registry, import_own

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["LOGGERS", "Logger", "LoggedRun", "create_logger", "create_loggers", "numbers", "pixels"]


@dataclass(frozen=True)
class LoggedRun:
    """What a logger is told of the run when it starts.

    Attributes:
        folder: of the run; it exists.
        name: of the run, that of its folder.
        settings: by `section.key`, plain values.
        step: optimizer steps made; the records of later ones come again.
        history: the rows of the epochs so far, which were recorded before.
        kept: what `start` returned when the run began, {} where it begins now.
    """

    folder: Path
    name: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    step: int = 0
    history: Sequence[dict] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)


class Logger:
    """Does nothing; a subclass overrides the methods that it needs. All are called in one process, that of rank 0.

        start  ->  [ row, text ] ...  ->  result, images  ->  close

    Attributes:
        essential: whether the run ends where it raises; else it is switched off.
        place: where its records can be looked at, for the start of the run; "" for nothing to say.
    """

    essential: ClassVar[bool] = False
    place: str = ""

    def start(self, run: LoggedRun) -> Mapping[str, Any] | None:
        """Before the first step of this process. Returns what is needed to go on with the same records when the run is
        resumed, as JSON; it is kept in the run folder.
        """

    def row(self, name: str, row: Mapping[str, Any], step: int) -> None:
        """A row of values, most of them numbers (`numbers` picks these).

        `name`: step (loss, images per second and percent of waiting since the last row), lr (learning rates by part),
        epoch (a row of metrics.csv), test (scores of the test split), or a callback's.
        """

    def text(self, name: str, text: str, step: int) -> None:
        """What a callback says."""

    def images(self, name: str, images: "Tensor", titles: Sequence[str], step: int) -> None:
        """Images (N, C, H, W), uint8 or floating point in [0, 1], with one title each; C is 1 or 3."""

    def result(self, scores: Mapping[str, float], step: int) -> None:
        """The scores of the test split, at the end of the run."""
        self.row("test", scores, step)

    def close(self, outcome: str) -> None:
        """The end of the process. `outcome`: finished, stopped (the run can be resumed), or failed."""


@dataclass(frozen=True)
class LoggerPlace:
    """Where a logger is, and what has to be installed for it.

    Attributes:
        place: "module:class", imported when it is asked for.
        package: that it needs beside our own; None for none.
    """

    place: str
    package: str | None = None


LOGGERS: Registry[LoggerPlace | type[Logger]] = Registry("logger")
LOGGERS.add("csv", LoggerPlace("gcp.engine.log:MetricsFile"), summary="metrics.csv in the run folder, always written")
LOGGERS.add(
    "tensorboard",
    LoggerPlace("gcp.loggers.tensorboard:TensorBoard", "tensorboard"),
    summary="event files in the run folder: tensorboard --logdir runs",
)
LOGGERS.add(
    "wandb",
    LoggerPlace("gcp.loggers.services:Wandb", "wandb"),
    summary="Weights & Biases; log.options.wandb.mode=offline needs no account",
)
LOGGERS.add(
    "mlflow",
    LoggerPlace("gcp.loggers.services:MLflow", "mlflow"),
    summary="MLflow: a server, or mlflow.db in the working folder",
)
LOGGERS.add(
    "trackio",
    LoggerPlace("gcp.loggers.services:Trackio", "trackio"),
    summary="Trackio: a local dashboard, or a Space of the Hugging Face hub",
)
ALWAYS, DEFAULT = ("csv",), ("tensorboard",)

_OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_own(name: str) -> bool:
    """Whether a name has the form MODULE:CLASS."""
    return _OWN.fullmatch(name) is not None


def create_loggers(
    names: Iterable[str] = DEFAULT, options: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Logger]:
    """The loggers of those names, and metrics.csv before them. Nothing is written or connected to before `start`.

    Raises:
        UnknownNameError, OptionError: see `create_logger`.
    """
    return {name: create_logger(name, (options or {}).get(name, {})) for name in dict.fromkeys((*ALWAYS, *names))}


def create_logger(name: str, options: Mapping[str, Any] | None = None) -> Logger:
    """A logger by its name, or by MODULE:CLASS, which is imported.

    Raises:
        UnknownNameError: there is none of that name.
        OptionError: its package is not installed (with what to type), it does not have an option, or a MODULE:CLASS
            cannot be imported or is no Logger.
    """
    kind: Any
    if is_own(name):
        kind = _own(name)
    else:
        kind = LOGGERS[name].obj
        if isinstance(kind, LoggerPlace):
            if not _is_there(kind.package):
                raise OptionError(
                    f"the logger {name} needs the package {kind.package}, which is not installed. Type\n"
                    f"  {install(name)}\nor leave {name} out of log.to."
                )
            kind = _class(kind)
    return _checked(kind, name, dict(options or {}))


def option_fault(name: str, options: Mapping[str, Any]) -> str | None:
    """What is wrong with the options of a logger in LOGGERS, which need not be installed; None where nothing is."""
    kind = LOGGERS[name].obj
    try:
        _checked(_class(kind) if isinstance(kind, LoggerPlace) else kind, name, dict(options))
    except OptionError as error:
        return str(error)
    return None


def numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a row, its place in the run aside."""
    return {key: value for key, value in row.items() if isinstance(value, Real) and key not in ("epoch", "step")}


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a row that are not inf or NaN, which some services refuse."""
    return {key: value for key, value in numbers(row).items() if math.isfinite(value)}


def pixels(image: "Tensor") -> "np.ndarray":
    """An image (C, H, W) as (H, W) grey or (H, W, 3) colour, uint8."""
    if image.is_floating_point():
        image = (255 * image.clamp(0, 1)).round()
    values: np.ndarray = image.byte().cpu().permute(1, 2, 0).numpy()
    return values[..., 0] if values.shape[-1] == 1 else values


def plain(settings: Mapping[str, object]) -> dict[str, int | float | str]:
    """Settings with everything but numbers, texts and switches as text."""
    return {key: value if isinstance(value, int | float | str) else str(value) for key, value in settings.items()}


def _is_there(package: str | None) -> bool:
    """Whether a package is installed; a folder of that name, such as services leave in the working folder, is none."""
    found = None if package is None else find_spec(package)
    return package is None or (found is not None and found.origin is not None)


def _class(place: LoggerPlace) -> Any:
    module, _, name = place.place.partition(":")
    return getattr(import_module(module), name)


def _own(name: str) -> Any:
    module, _, attribute = name.partition(":")
    example = "allowed: MODULE:CLASS, such as mine:Slack for the class Slack in mine.py"
    imported = import_own(module, example)
    if not hasattr(imported, attribute):
        raise OptionError(f"log.to: {module} has no {attribute}; {example}.{suggest(attribute, vars(imported))}")
    return getattr(imported, attribute)


def _checked(kind: Any, name: str, options: dict[str, Any]) -> Logger:
    if hasattr(kind, "__dataclass_fields__"):
        made = build(kind, name, options)
    else:
        try:
            made = kind(**options)
        except TypeError as error:
            raise OptionError(f"the logger {name} cannot be made with the options {options}: {error}.") from error
    if not isinstance(made, Logger):
        raise OptionError(f"the logger {name} is a {type(made).__name__}; allowed: a subclass of gcp.loggers.Logger.")
    return made
