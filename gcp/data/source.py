"""The registry of data sets. A new data set is one file in this folder that adds its Source to DATASETS."""

import numbers
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gcp.data.imageset import Splits
from gcp.errors import OptionError, UnknownNameError
from gcp.registry import Registry


@dataclass(frozen=True)
class Source:
    """One data set: how to create its splits, and what it allows.

    `create` takes root, image_size, in_chans, per_class, val_fraction, split_seed, transform by name.
    `needs_root`: it lies on disk, else it takes no root. `image_size`: the usual one; `min_size`: the least.
    `channels`: the allowed in_chans, None for any. `transforms`: names beside "none", "default" among them.
    """

    create: Callable[..., Splits]
    needs_root: bool
    image_size: int
    min_size: int
    channels: tuple[int, ...] | None
    transforms: tuple[str, ...] = ("default",)


DATASETS: Registry[Source] = Registry("data set")


def check_dataset(
    name: str,
    root: str | Path | None = None,
    image_size: int = 32,
    in_chans: int = 3,
    per_class: int | None = None,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    transform: str = "default",
) -> None:
    """Check the arguments of `create_dataset` before the disk is touched: UnknownNameError or OptionError."""
    source = DATASETS[name].obj
    if source.needs_root and root is None:
        raise OptionError(f"data set {name!r} lies on disk; got no root. Set data.root=FOLDER.")
    if not source.needs_root and root is not None:
        raise OptionError(
            f"data set {name!r} is built in and takes no root; got root={str(root)!r}. Leave data.root null."
        )
    if not isinstance(root, str | os.PathLike | None):
        raise OptionError(f"data.root must be the path of a folder; got {root!r}.")
    _whole("image_size", image_size, source.min_size)
    _whole("in_chans", in_chans, 1)
    if source.channels is not None and in_chans not in source.channels:
        allowed = " or ".join(map(str, source.channels))
        raise OptionError(f"in_chans of data set {name!r} is {allowed}; got {in_chans}.")
    if per_class is not None:
        _whole("per_class", per_class, 1)
    _whole("split_seed", split_seed, 0)
    check_fraction(val_fraction)
    if transform not in (*source.transforms, "none"):
        raise UnknownNameError("transform", transform, (*source.transforms, "none"))


def check_fraction(fraction: float) -> None:
    """Raise OptionError unless the share of images held out for validation is a number between 0 and 1."""
    if isinstance(fraction, bool) or not isinstance(fraction, numbers.Real) or not 0 < fraction < 1:
        raise OptionError(
            f"val_fraction must be a number above 0 and below 1; got {fraction!r}. "
            "The best checkpoint is chosen on images held out from training, so some are needed."
        )


def _whole(key: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise OptionError(f"{key} must be a whole number of at least {least}; got {value!r}.")
