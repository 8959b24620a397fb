"""The listing of a data set on disk: which file has which label, in which split. Nothing is decoded.

`Listing` is what every reader of annotations returns; annotations as text files, a line per item, are read here.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gcp.data.decode import read_regular
from gcp.errors import DataError

SPLITS = ("train", "val", "test")
# images.txt, image_class_labels.txt, train_test_split.txt and classes.txt, each of lines "ID VALUE".
ID_LISTS = ("images", "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


@dataclass(frozen=True, eq=False)
class Files:
    """The files of one split: absolute `paths` as found, and `labels` (N,) int64, indices into the classes."""

    paths: tuple[str, ...]
    labels: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", tuple(self.paths))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64).reshape(-1))
        if len(self.paths) != len(self.labels):
            raise ValueError(f"{len(self.paths)} paths and {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class Listing:
    """A data set as its annotations describe it.

    `layout`: a short phrase for the report. `classes`: their names, by label. `splits`: train and test, and val
    where the set has one of its own; train alone where the test images are yet to be held out of it. `notes`: sentences
    for the report. `faults`: what was found wrong on the way. `held_out`: how val came
    about, where it is not the set's.
    """

    layout: str
    classes: tuple[str, ...]
    splits: dict[str, Files]
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    held_out: str = ""

    def __post_init__(self) -> None:
        names = set(self.splits)
        if names != {"train"} and not {"train", "test"} <= names <= set(SPLITS):
            raise ValueError(f"a listing has the splits train, test and perhaps val, or train; got {sorted(names)}")


def by_class(classes: Sequence[Sequence[str]]) -> Files:
    """Files from the paths of each class in turn."""
    paths = tuple(path for members in classes for path in members)
    return Files(paths, np.repeat(np.arange(len(classes)), [len(members) for members in classes]))


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty, stripped. Raises DataError where it cannot be read."""
    try:
        text = read_regular(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"the list {path} is missing.") from None
    except UnicodeDecodeError:
        raise DataError(f"the list {path} is not a text file in UTF-8: save it as one, or replace it.") from None
    except OSError as error:
        raise DataError(f"cannot read the list {path}: {error.strerror}.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def path_inside(source: Path, folder: str | Path, name: str) -> str:
    """The file `name` in `folder`, as `source` lists it. Raises DataError for a path that leads out of the folder."""
    if os.path.isabs(name) or ".." in name.split("/") or "\0" in name:
        raise DataError(f"{source} has the image {name!r}; allowed: a path inside of {folder}, without '..'.")
    return os.path.join(folder, name)


def read_pairs(path: Path) -> dict[str, str]:
    """First word of each line -> the rest of it. Raises DataError for a line of one word and for an id twice."""
    pairs: dict[str, str] = {}
    for line in read_lines(path):
        key, *rest = line.split(maxsplit=1)
        if not rest:
            raise DataError(f"{path} has the line {line!r}; each line should be an id and a value.")
        if key in pairs:
            raise DataError(f"{path} has the id {key!r} twice.")
        pairs[key] = rest[0]
    return pairs


def read_id_lists(place: Path, layout: str, folder: Callable[[str, str], str], leaves: bool = False) -> Listing:
    """The data set whose ID_LISTS are in `place`. Labels are in the order of the numbers in classes.txt.

    folder: the folder in images/ of a class by its number and name, which shows labels that are off by one.
    leaves: classes.txt is a hierarchy; its nodes with images are the classes.

    Raises DataError where the lists do not fit each other.
    """
    names = read_pairs(place / "classes.txt")
    images, classes, flags = (_by_image(place / list_) for list_ in ID_LISTS[1:4])
    for other, file in ((classes, place / ID_LISTS[2]), (flags, place / ID_LISTS[3])):
        if images.keys() != other.keys():
            differ = images.keys() ^ other.keys()
            raise DataError(
                f"{place / 'images.txt'} has {len(images)} images and {file} has {len(other)}; "
                f"{len(differ)} are in one of them only, such as {min(differ)!r}."
            )
    _check_values(place / ID_LISTS[2], classes, set(names), "a number of classes.txt")
    _check_values(place / ID_LISTS[3], flags, {"0", "1"}, "1 for training or 0 for test")

    expected = {number: folder(number, name) for number, name in names.items()}
    for image, path in images.items():
        if path.rpartition("/")[0] != expected[classes[image]]:
            raise DataError(
                f"{place / ID_LISTS[2]} puts image {image!r} into class {classes[image]!r}, whose folder is "
                f"{expected[classes[image]]!r}, and images.txt has it as {path!r}. The lists do not belong together."
            )

    used = set(classes.values()) if leaves else set(names)
    numbers = {number: label for label, number in enumerate(sorted(used, key=_number))}
    splits = {}
    for split, flag in (("train", "1"), ("test", "0")):
        chosen = [image for image in images if flags[image] == flag]
        paths = tuple(path_inside(place / "images.txt", f"{place}/images", images[image]) for image in chosen)
        splits[split] = Files(paths, np.array([numbers[classes[image]] for image in chosen], dtype=np.int64))
    return Listing(layout, tuple(names[number] for number in numbers), splits)


def _by_image(path: Path) -> dict[str, str]:
    # The ids of NABirds have the dashes of a UUID in some copies and none in others.
    return {image.replace("-", ""): value for image, value in read_pairs(path).items()}


def _check_values(path: Path, values: dict[str, str], allowed: set[str], words: str) -> None:
    wrong = {image: value for image, value in values.items() if value not in allowed}
    if wrong:
        image, value = next(iter(wrong.items()))
        raise DataError(f"{path} gives {value!r} for image {image!r} ({len(wrong)} such lines); allowed: {words}.")


def _number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (-1, text)
