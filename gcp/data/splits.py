"""Train, val and test: what each holds, and holding images out of a training set.

Images are held out, and a few of each class chosen, by ranking those of a class by a hash of (seed, index): no
generator, hence the same on every platform. The first five of a class are among its first ten. Nothing is known of the
images of a stream before they are read, so whole shards of it are held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from gcp.data.annotations.listing import SPLITS
from gcp.data.checks.faults import overlaps
from gcp.data.images import ImageSet
from gcp.data.seeds import FEW_SHOT, SPLIT, hashed
from gcp.data.stream import StreamSet
from gcp.errors import DataError, OptionError, counted

NONE = "none, every training image is trained on (val_fraction 0)"
Split = TypeVar("Split", ImageSet, StreamSet)


@dataclass(frozen=True)
class Splits:
    """The three splits of a data set. `rule` is a plain sentence: which images are validation and test.

    Raises DataError where a file is in two of them.
    """

    train: ImageSet | StreamSet
    val: ImageSet | StreamSet
    test: ImageSet | StreamSet
    classes: tuple[str, ...]
    rule: str

    def __post_init__(self) -> None:
        paths = {name: getattr(self, name).paths for name in SPLITS}
        for fault in overlaps({name: each for name, each in paths.items() if each is not None}):
            raise DataError(f"{fault}. An image that is trained on must not be scored.")

    def images(self, name: str) -> ImageSet:
        """The split `name`, for who has to choose among its images. Raises DataError where it is a stream."""
        images = getattr(self, name)
        if isinstance(images, StreamSet):
            raise DataError(f"the split {name!r} is a stream, which can only be read in order. {self.rule}")
        return images

    def fingerprint(self) -> dict[str, str]:
        """Of each split, by which a run that is resumed knows that its images are still the same."""
        return {name: getattr(self, name).fingerprint() for name in SPLITS}


def check_fraction(fraction: Any, key: str = "val_fraction") -> None:
    """Raise OptionError unless the share of images held out is a number from 0 on and below 1."""
    if isinstance(fraction, bool) or not isinstance(fraction, Real) or not 0 <= float(fraction) < 1:
        raise OptionError(f"{key} must be a number from 0 (none is held out) on and below 1; got {fraction!r}.")


def stratified_split(
    labels: Sequence[int] | np.ndarray, fraction: float, seed: int, key: int = SPLIT
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, val), int64, ascending, disjoint, together all of `labels` (N,).

    Of n images of a class, `fraction * n` rounded to the nearest are held out, at least one, and at least one
    stays; of a single image none is, nor of any with a fraction of 0. Raises OptionError unless 0 <= fraction < 1.

    Examples:
        >>> import gcp
        >>> train, val = gcp.data.stratified_split([0, 0, 0, 0, 1, 1, 1, 1], 0.25, seed=0)
        >>> len(train), len(val)
        (6, 2)
    """
    check_fraction(fraction)
    held = np.zeros(len(labels), dtype=bool)
    for members in _members(np.asarray(labels), np.arange(len(labels))).values():
        if len(members) > 1 and fraction > 0:
            count = min(max(int(fraction * len(members) + 0.5), 1), len(members) - 1)
            held[_ranked(members, key, seed)[:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def few_shot(
    labels: Sequence[int] | np.ndarray,
    indices: Sequence[int] | np.ndarray,
    per_class: int,
    seed: int,
    classes: Sequence[str] | None = None,
) -> np.ndarray:
    """`per_class` of `indices` from each class among them, ascending. `labels` (N,) covers the whole set.

    Raises DataError naming the class (by `classes` where given) that has too few images.

    Examples:
        >>> import gcp
        >>> len(gcp.data.few_shot([0, 0, 0, 1, 1, 1], range(6), per_class=2, seed=0))
        4
    """
    chosen = []
    for label, members in _members(np.asarray(labels), np.asarray(indices, dtype=np.int64)).items():
        if len(members) < per_class:
            name = repr(classes[label]) if classes is not None else str(label)
            raise DataError(
                f"per_class={per_class} asks for more training images than class {name} has: {len(members)} "
                f"after the validation split. Set data.per_class={len(members)} or less."
            )
        chosen.append(_ranked(members, FEW_SHOT, seed)[:per_class])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)


def hold_out(pool: Split, fraction: float, seed: int, classes: Sequence[str]) -> tuple[Split, Split, str]:
    """Split `pool` into (train, val) and say how in words; with a fraction of 0 val is empty.

    Raises DataError where nothing can be held out.
    """
    if fraction == 0:
        return pool, pool.subset([]), NONE
    if isinstance(pool, StreamSet):
        train, val, how = _hold_out_shards(pool, fraction, seed)
    else:
        train, val = stratified_split(pool.labels, fraction, seed)
        how = "held out class by class"
    if len(val) == 0:
        raise DataError(
            f"no validation image can be held out: each of the {counted(len(classes), 'class')} has a single training "
            "image. Add images or a validation split, or hold none out by data.val_fraction=0."
        )
    held = pool.subset(val)
    text = f"{len(held):,} of the {len(pool):,} training images, {how} (fraction {fraction:g}, seed {seed})"
    return pool.subset(train), held, text


def _hold_out_shards(pool: StreamSet, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Shards (train, val), ranked by a hash of (seed, index) and held out until `fraction` of the images is reached:
    at least one, and at least one stays.
    """
    shards = pool.shards
    if len(shards) < 2:
        raise DataError(
            "no validation images can be held out: the training split is a single shard, and a stream is held out by "
            "whole shards. Write it as several shards, add a validation split, or hold none out by "
            "data.val_fraction=0."
        )
    ranked = _ranked(np.arange(len(shards)), SPLIT, seed)
    before = np.cumsum([0] + [shards[index].count for index in ranked])[:-1]
    count = min(max(int((before < fraction * len(pool)).sum()), 1), len(shards) - 1)
    how = f"{count} of its {len(shards)} shards held out whole, not class by class"
    return np.sort(ranked[count:]), np.sort(ranked[:count]), how


def reduce_train(train: Split, per_class: int | None, seed: int, classes: Sequence[str]) -> tuple[Split, str]:
    """The training set, or `per_class` images of each class of it, and its description in words."""
    if isinstance(train, StreamSet):  # no image of it can be chosen, see check_per_class
        return train, f"{counted(len(train), 'image')} in {counted(len(train.shards), 'shard')}"
    if per_class is None:
        return train, counted(len(train), "image")
    train = train.subset(few_shot(train.labels, np.arange(len(train)), per_class, seed, classes))
    return train, f"{counted(len(train), 'image')}, {per_class} of each class (seed {seed})"


def check_per_class(name: str, per_class: int | None) -> None:
    """Raise OptionError for few-shot training on a stream."""
    if per_class is not None:
        raise OptionError(
            f"data.per_class of {name}: got {per_class}; allowed: null. A stream is read in order and its labels are "
            "not known before, so images cannot be chosen class by class."
        )


def _members(labels: np.ndarray, indices: np.ndarray) -> dict[int, np.ndarray]:
    """Class -> its indices, in the order given."""
    order = indices[np.argsort(labels[indices], kind="stable")]
    found, starts = np.unique(labels[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}


def _ranked(members: np.ndarray, *keys: int) -> np.ndarray:
    return members[np.argsort(hashed(*keys, members), kind="stable")]
