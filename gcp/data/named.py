"""Which splits are train, val and test, for sets whose splits have names given by somebody else.

train, validation, test   used as they are
train, test               validation is held out of train
train, validation         the habit of ImageNet: validation is what results are quoted on, so it is the test split
                          here, and ours is held out of train; nothing is ever selected on the test split
"""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeVar

from gcp.errors import DataError

SYNONYMS = {
    "train": ("train", "training"),
    "val": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


class Sized(Protocol):
    """Anything that counts its images."""

    def __len__(self) -> int: ...


T = TypeVar("T", bound=Sized)


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


def arrange(
    where: str,
    found: Mapping[str, T],
    hold_out: Callable[[T], tuple[T, T, str]],
    reduce_train: Callable[[T], tuple[T, str]],
) -> tuple[T, T, T, str]:
    """(train, val, test, rule) of the splits by name.

    hold_out: training images to (train, val, how). reduce_train: to those that are used, and how many they are.
    """
    roles = find_roles(where, list(found))
    train = found[roles["train"]]
    if len(roles) == 3:
        val, test = found[roles["val"]], found[roles["test"]]
        tested, held_out = _text(roles["test"], test), _text(roles["val"], val)
    else:
        name = roles.get("test") or roles["val"]
        test, tested = found[name], _text(name, found[name])
        if "val" in roles:
            tested += ", since no other can be scored and nothing may be selected on it"
        train, val, held_out = hold_out(train)
    train, kept = reduce_train(train)
    rule = f"test: {tested}; validation: {held_out}; training: {kept}."
    if others := [name for name in found if name not in roles.values()]:
        rule += f" Not used: {', '.join(others)}."
    return train, val, test, rule


def _text(name: str, images: Sized) -> str:
    return f"the split '{name}' ({len(images)})"
