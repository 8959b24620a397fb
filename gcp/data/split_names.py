"""Which splits are train, val and test, for sets whose splits have names given by somebody else.

train, validation, test   used as they are
train, test               validation is held out of train
train, validation         the habit of ImageNet: validation is what results are quoted on, so it is the test split
                          here, and ours is held out of train; nothing is ever selected on the test split
"""

from collections.abc import Collection, Mapping, Sized
from typing import Any

import numpy as np

from gcp.data.images import ImageSet
from gcp.data.splits import Split, Splits, hold_out, reduce_train
from gcp.data.stream import StreamSet
from gcp.errors import DataError

SYNONYMS = {
    "train": ("train", "training"),
    "val": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


def splits_by_name(
    where: str,
    found: Mapping[str, Split],
    classes: tuple[str, ...],
    *,
    val_fraction: float,
    split_seed: int,
    per_class: int | None,
) -> Splits:
    """Train, val and test out of sets by the names of their splits.

    A split without labels, which holds -1 for each, is not used. Raises DataError for other labels that are no
    class, an empty split, and where there is nothing to train or to test on.
    """
    unlabelled = [name for name, images in found.items() if _is_unlabelled(images)]
    used: dict[str, Any] = {name: images for name, images in found.items() if name not in unlabelled}
    for name, images in used.items():
        if isinstance(images, ImageSet):
            _check_labels(f"the split '{name}' of {where}", images.labels, len(classes))
    roles = find_roles(where, list(used))
    train = used[roles["train"]]
    if len(roles) == 3:
        val, test = used[roles["val"]], used[roles["test"]]
        tested, held_out = _text(roles["test"], test), _text(roles["val"], val)
    else:
        name = roles.get("test") or roles["val"]
        test, tested = used[name], _text(name, used[name])
        if "val" in roles:
            tested += ", since no other can be scored and nothing may be selected on it"
        train, val, held_out = hold_out(train, val_fraction, split_seed, classes)
    train, kept = reduce_train(train, per_class, split_seed, classes)
    rule = f"test: {tested}; validation: {held_out}; training: {kept}."
    for words, names in (("Not used", set(used) - set(roles.values())), ("Without labels, not used", set(unlabelled))):
        if names:
            rule += f" {words}: {', '.join(name for name in found if name in names)}."
    return Splits(train, val, test, classes, rule)


def find_roles(where: str, names: Collection[str]) -> dict[str, str]:
    """Role (train, val, test) -> the split that has it, by its synonyms; other names have no role.

    Raises DataError unless there is a split to train on and one to test on.
    """
    found: dict[str, str] = {}
    for role, synonyms in SYNONYMS.items():
        if names_of_role := [name for name in synonyms if name in names]:
            found[role] = names_of_role[0]
    has = f"it has {', '.join(map(repr, names)) or 'none'}; needed are 'train', and 'test', 'validation' or both"
    if "train" not in found:
        raise DataError(f"{where} has no split to train on: {has}.")
    if len(found) == 1:
        raise DataError(f"{where} has no split to score the trained model on: {has}.")
    return found


def _is_unlabelled(images: ImageSet | StreamSet) -> bool:
    return isinstance(images, ImageSet) and len(images) > 0 and bool((images.labels == -1).all())


def _text(name: str, images: Sized) -> str:
    return f"the split '{name}' ({len(images)})"


def _check_labels(what: str, labels: np.ndarray, classes: int) -> None:
    if not len(labels):
        raise DataError(f"{what} is empty.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{what} has {len(wrong)} labels that are no class: the first is {labels[wrong[0]]}, of image {wrong[0]}; "
            f"allowed: 0 to {classes - 1}."
        )
