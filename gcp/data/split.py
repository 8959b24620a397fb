"""Holding validation images out of a training set, class by class, and choosing a few of each class.

Both rank the images of a class by a hash of (seed, index) and take the first: no generator, hence the same on
every platform. The first five of a class are among its first ten.
"""

from collections.abc import Sequence

import numpy as np

from gcp.data.imageset import ImageSet
from gcp.data.seeds import FEW_SHOT, SPLIT, hashed
from gcp.data.source import check_fraction
from gcp.errors import DataError, counted

NONE = "none, every training image is trained on (val_fraction 0)"


def stratified_split(labels: Sequence[int] | np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, val), int64, ascending, disjoint, together all of `labels` (N,).

    Of n images of a class, `fraction * n` rounded to the nearest are held out, at least one, and at least one
    stays; of a single image none is, nor of any with a fraction of 0. Raises OptionError unless 0 <= fraction < 1.
    """
    check_fraction(fraction)
    held = np.zeros(len(labels), dtype=bool)
    for members in _members(np.asarray(labels), np.arange(len(labels))).values():
        if len(members) > 1 and fraction > 0:
            count = min(max(int(fraction * len(members) + 0.5), 1), len(members) - 1)
            held[_ranked(members, SPLIT, seed)[:count]] = True
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


def hold_out(pool: ImageSet, fraction: float, seed: int, classes: Sequence[str]) -> tuple[ImageSet, ImageSet, str]:
    """Split `pool` into (train, val) and say how in words; with a fraction of 0 val is empty.

    Raises DataError where nothing can be held out.
    """
    train, val = stratified_split(pool.labels, fraction, seed)
    if fraction == 0:
        return pool, pool.subset(val), NONE
    if len(val) == 0:
        raise DataError(
            f"no validation image can be held out: each of the {counted(len(classes), 'class')} has a single training "
            "image. Add images or a validation split, or hold none out by data.val_fraction=0."
        )
    how = f"held out class by class (fraction {fraction:g}, seed {seed})"
    return pool.subset(train), pool.subset(val), f"{len(val):,} of the {len(pool):,} training images, {how}"


def reduce_train(train: ImageSet, per_class: int | None, seed: int, classes: Sequence[str]) -> tuple[ImageSet, str]:
    """The training set, or `per_class` images of each class of it, and its description in words."""
    if per_class is None:
        return train, counted(len(train), "image")
    train = train.subset(few_shot(train.labels, np.arange(len(train)), per_class, seed, classes))
    return train, f"{counted(len(train), 'image')}, {per_class} of each class (seed {seed})"


def _members(labels: np.ndarray, indices: np.ndarray) -> dict[int, np.ndarray]:
    """Class -> its indices, in the order given."""
    order = indices[np.argsort(labels[indices], kind="stable")]
    found, starts = np.unique(labels[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}


def _ranked(members: np.ndarray, *keys: int) -> np.ndarray:
    return members[np.argsort(hashed(*keys, members), kind="stable")]
