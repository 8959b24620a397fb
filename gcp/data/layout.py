"""Reading a tree `root/split/class/images`, with an answer for every way in which it can be half there."""

import os
from pathlib import Path

from gcp.data.files import EXTENSIONS
from gcp.errors import DataError, suggest

SPLITS = ("train", "val", "test")
_SHOWN = 10


def find_root(root: str | Path) -> tuple[Path, list[str], list[str]]:
    """The folder, the split folders in it, and its other folders.

    Raises DataError unless there is a folder 'train', and one to test on.
    """
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(_missing(folder))
    inside = _folders(folder)
    names = [name for name in SPLITS if name in inside]
    others = [name for name in inside if name not in SPLITS]
    holds = _listed(inside, "no folder")
    looked = f"{folder} must hold train/CLASS/*.jpg, and val/, test/ or both; it holds {holds}."
    if "train" not in names:
        nested = [name for name in others if (folder / name / "train").is_dir()]
        hint = f" Set data.root={folder / nested[0]}." if nested else suggest("train", others)
        raise DataError(f"no folder 'train'. {looked}{hint}")
    if len(names) == 1:
        raise DataError(
            f"no folder 'test' or 'val': there is nothing to score the trained model on. {looked}"
            f"{suggest('test', others) or suggest('val', others)}"
        )
    return folder, names, others


def scan(split: Path) -> dict[str, list[str]]:
    """Class name -> its image files, both sorted, at any depth. Raises DataError on an empty class."""
    classes = {name: _images(split / name) for name in _folders(split)}
    if not classes:
        loose = sum(entry.suffix.lower() in EXTENSIONS for entry in split.iterdir())
        found = f"{loose} images that lie in no class folder" if loose else "nothing"
        raise DataError(f"{split} must hold one folder per class; it holds {found}. Move the images to {split}/CLASS/.")
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise DataError(
            f"no image in class {_listed(empty)} of {split}. Looked for {' '.join(EXTENSIONS)}. "
            "Add images, or remove the folder from every split."
        )
    return classes


def same_classes(folder: Path, found: dict[str, dict[str, list[str]]]) -> tuple[str, ...]:
    """The classes, where all splits have the same. Raises DataError listing the differences to train."""
    wanted = set(found["train"])
    faults = []
    for name, classes in found.items():
        if lacking := sorted(wanted - set(classes)):
            faults.append(f"{name} lacks {_listed(lacking)}")
        if extra := sorted(set(classes) - wanted):
            faults.append(f"{name} has {_listed(extra)}, which train has not")
    if faults:
        raise DataError(f"the splits of {folder} have different classes: {'; '.join(faults)}.")
    return tuple(found["train"])


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(place.name for place in folder.iterdir() if place.is_dir() and place.name[0] != ".")
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}.") from error


def _images(folder: Path) -> list[str]:
    # Files such as ._name.jpg are left by archives of macOS and are no images.
    found, seen = [], set()
    for place, inside, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or (place != str(folder) and os.path.realpath(folder).startswith(real + os.sep)):
            inside.clear()  # a link to a folder that was read already, or to one above
            continue
        seen.add(real)
        found += [os.path.join(place, n) for n in names if n.lower().endswith(EXTENSIONS) and n[0] != "."]
    return sorted(found)


def _missing(folder: Path) -> str:
    file = next((place for place in (folder, *folder.parents) if place.is_file()), None)
    if file is not None:
        return f"{file}, in data.root, is a file; a folder with train/, val/, test/ is needed."
    parent = next(place for place in folder.parents if place.is_dir())
    # The first component of the path that is not there is the one that may be misspelt.
    wrong = folder.relative_to(parent).parts[0]
    inside = _folders(parent)
    return (
        f"the folder {folder} does not exist: {parent} holds no {wrong!r}, "
        f"but {_listed(inside, 'no folder')}.{suggest(wrong, inside)}"
    )


def _listed(names: list[str], nothing: str = "nothing") -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown or nothing
