"""The registry of data sets. A new one is a file in `gcp.data.sets` that adds its Source to DATASETS."""

import numbers
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gcp.data.annotations.listing import Listing
from gcp.data.imageset import Splits
from gcp.data.transforms import Transform, create_transform
from gcp.errors import OptionError, nearest
from gcp.registry import Registry


class Refusal(NamedTuple):
    """An argument that a data set does not take. `meant`: the nearest allowed value, or None."""

    key: str
    got: object
    allowed: str
    meant: str | None = None


@dataclass(frozen=True)
class Request:
    """What is asked of a data set: the arguments of `create_dataset`, checked."""

    name: str
    root: str | Path | None
    image_size: int
    in_chans: int
    per_class: int | None
    val_fraction: float
    split_seed: int
    transform: str
    partial: bool

    @property
    def folder(self) -> Path:
        """`root`, of a set that is not asked for without one."""
        assert self.root is not None
        return Path(self.root).expanduser()

    def recipe(self, default: str) -> Transform:
        """The transform; `default`: the name of the set's own."""
        return create_transform(self.transform, default, self.image_size, self.in_chans)


@dataclass(frozen=True)
class Source:
    """One data set: how to create its splits, and what it allows.

    `needs_root`: it lies on disk, else it takes no root; None: it takes one or none. `image_size`: the usual one;
    `min_size`: the least. `channels`: the allowed in_chans, None for any. `transforms`: names beside "default" and
    "none".
    `listing`: reads the annotations of a set of files on disk. `classes`, `counts`: the published number of
    classes, and of images by split of the listing; None where there is none.
    `default`: the name of its transform, of TRANSFORMS; of images in memory the one for files like them.
    `levels`: grey levels of the images as they are published, 256 for bytes.
    """

    create: Callable[[Request], Splits]
    needs_root: bool | None
    image_size: int
    min_size: int
    channels: tuple[int, ...] | None
    transforms: Iterable[str] = ()
    listing: Callable[[Path], Listing] | None = None
    classes: int | None = None
    counts: dict[str, int] | None = None
    default: str = "random_resized_crop"
    levels: int = 256

    def refusals(self, root: object, image_size: int | None, in_chans: int, transform: str) -> Iterator[Refusal]:
        """What the data set does not take; image_size None for its usual one. No disk is touched."""
        if self.needs_root and root is None:
            yield Refusal("root", None, "the folder that it lies in")
        if self.needs_root is False and root is not None:
            yield Refusal("root", root, "null, it is part of an installed package")
        if image_size is not None and image_size < self.min_size:
            yield Refusal("image_size", image_size, f"a whole number >= {self.min_size}")
        if self.channels is not None and in_chans not in self.channels:
            yield Refusal("in_chans", in_chans, " or ".join(map(str, self.channels)))
        transforms = ["default", *self.transforms, "none"]
        if transform not in transforms:
            yield Refusal("transform", transform, ", ".join(transforms), nearest(transform, transforms))


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
    partial: bool = False,
) -> None:
    """Check the arguments of `create_dataset` before the disk is touched: UnknownNameError or OptionError."""
    source = DATASETS[name].obj
    if not isinstance(root, str | os.PathLike | None):
        raise OptionError(f"data.root must be the path of a folder; got {root!r}.")
    _whole("image_size", image_size)
    _whole("in_chans", in_chans)
    if per_class is not None:
        _whole("per_class", per_class)
    _whole("split_seed", split_seed, least=0)
    check_fraction(val_fraction)
    if not isinstance(partial, bool):
        raise OptionError(f"partial must be True or False; got {partial!r}.")
    refused = [_message(name, *each) for each in source.refusals(root, image_size, in_chans, transform)]
    if refused:
        raise OptionError("\n".join(refused))


def check_fraction(fraction: float) -> None:
    """Raise OptionError unless the share of images held out for validation is a number from 0 on and below 1."""
    if isinstance(fraction, bool) or not isinstance(fraction, numbers.Real) or not 0 <= fraction < 1:
        raise OptionError(f"val_fraction must be a number from 0 (none is held out) on and below 1; got {fraction!r}.")


def _message(name: str, key: str, got: object, allowed: str, meant: str | None) -> str:
    shown = got if got is None or isinstance(got, int) else repr(str(got))
    hint = f" Did you mean {meant!r}?" if meant else ""
    return f"data.{key} of {name}: got {shown}; allowed: {allowed}.{hint}"


def _whole(key: str, value: object, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise OptionError(f"{key} must be a whole number of at least {least}; got {value!r}.")
