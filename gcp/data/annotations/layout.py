"""Reading a tree `root/split/class/images`, with an answer for every way in which it can be half there."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from gcp.data.decode import EXTENSIONS
from gcp.errors import DataError, counted, suggest

ARCHIVES = (".tar", ".tgz", ".gz", ".zip")
_SHOWN = 10


def existing_folder(root: str | Path) -> Path:
    """The absolute path of `root`. Raises DataError unless it is a folder that can be read."""
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(_missing(folder))
    subfolders(folder)
    return folder


def locate(root: Path, layouts: Mapping[str, Sequence[str]]) -> tuple[str, Path]:
    """The layout found and its folder, which is `root` or lies in it.

    layouts: by name, the relative paths of files and folders that must all be there. The first that fits counts.

    Raises DataError where none does, with what was looked for and what is nearly there, and where several folders
    in `root` fit.
    """
    inside = [root / name for name in subfolders(root)]
    for name, wanted in layouts.items():
        for places in ([root], inside):
            found = [place for place in places if _holds(place, wanted)]
            if len(found) > 1:
                raise DataError(f"{root} holds {name} {len(found)} times. {set_root(found[0])} or one of the others.")
            if found:
                return name, found[0]
    raise DataError(_unlike(root, inside, layouts))


def _unlike(root: Path, inside: list[Path], layouts: Mapping[str, Sequence[str]]) -> str:
    """What to say where no layout fits."""
    for above in list(root.parents)[:3]:
        if any(_holds(above, wanted) for wanted in layouts.values()):
            return f"{root} is a part of the data set, which lies in {above}. {set_root(above)}."
    for below in (place / name for place in inside if os.access(place, os.R_OK) for name in subfolders(place)):
        if fitting := next((name for name, wanted in layouts.items() if _holds(below, wanted)), None):
            return f"{below}, further down in {root}, is laid out as {fitting}. {set_root(below)}."
    lacking = {
        (name, place): [part for part in wanted if not _holds(place, [part])]
        for name, wanted in layouts.items()
        for place in (root, *inside)
    }
    near = [key for key, parts in lacking.items() if len(parts) < len(layouts[key[0]])]
    if near:
        name, place = min(near, key=lambda key: len(lacking[key]) / len(layouts[key[0]]))
        holds = sorted(entry.name for entry in place.iterdir())
        missing = lacking[name, place]
        hint = suggest(missing[0], set(holds) - set(layouts[name]))
        looks = f"{place} looks like {name}, but lacks {listed(missing)}; it holds {listed(holds)}."
        return f"{looks}{hint}{unpack(place)}"
    looked = "; or ".join(f"{name}: {', '.join(wanted)}" for name, wanted in layouts.items())
    return (
        f"the data set is not in {root}. Looked there and in its folders for {looked}. "
        f"It holds {listed(sorted(entry.name for entry in root.iterdir()))}.{unpack(root)}"
    )


def set_root(folder: Path) -> str:
    """What to type where `folder` is the one that is meant, without a full stop."""
    return f"Set data.root={shlex.quote(str(folder))}"


def unpack(folder: Path) -> str:
    """` Unpack 'X.tar' ...` for a folder with archives that were left as they came, or an empty string."""
    archives = sorted(place.name for place in folder.iterdir() if place.name.lower().endswith(ARCHIVES))
    return f" Unpack {listed(archives)} there." if archives else ""


def _holds(place: Path, wanted: Sequence[str]) -> bool:
    # Unlike Path.exists, False for what is in a folder that may not be read.
    return all(os.path.exists(place / part) for part in wanted)


def scan(split: Path, besides: Sequence[str] = ()) -> tuple[dict[str, list[str]], list[str]]:
    """Class name -> its image files, both sorted, at any depth; and a sentence on the classes that have none.

    besides: folders in it that are no classes.

    Raises DataError where there is no class.
    """
    classes = {name: _images(split / name) for name in subfolders(split) if name not in besides}
    if not classes:
        loose = sum(entry.suffix.lower() in EXTENSIONS for entry in split.iterdir())
        found = f"{counted(loose, 'image')} in no class folder" if loose else "none"
        mend = f" Move the images to {split}/CLASS/."
        if unpack(split):
            each = 'for f in *.tar; do mkdir "${f%.tar}" && tar -xf "$f" -C "${f%.tar}"; done'
            mend = f"{unpack(split)} If each is a class, by: cd {shlex.quote(str(split))} && {each}"
        raise DataError(f"{split} must hold one folder per class; it holds {found}.{mend}")
    empty = [name for name, files in classes.items() if not files]
    fault = (
        f"no image in class {listed(empty)} of {split}. Looked for {' '.join(EXTENSIONS)}. "
        "Add images, or remove the folder from every split."
    )
    return classes, [fault] if empty else []


def scan_splits(folder: Path, names: Sequence[str]) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """The images of each class of each split, the classes those of all splits together, in sorted order; and a
    sentence for each fault: classes without images, and classes that train or another split does not have.
    """
    found, faults = {}, []
    for name in names:
        found[name], empty = scan(folder / name)
        faults += empty
    wanted, differ = set(found["train"]), []
    for name, classes in found.items():
        if lacking := sorted(wanted - set(classes)):
            differ.append(f"{name} lacks {listed(lacking)}")
        if extra := sorted(set(classes) - wanted):
            differ.append(f"{name} has {listed(extra)}, which train has not")
    if differ:
        faults.append(f"the splits of {folder} have different classes: {'; '.join(differ)}.")
    union = sorted(set().union(*found.values()))
    return {name: {each: classes.get(each, []) for each in union} for name, classes in found.items()}, faults


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, hidden ones left out. Raises DataError where it cannot be read."""
    try:
        return sorted(place.name for place in folder.iterdir() if place.is_dir() and place.name[0] != ".")
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}.") from error


def _images(folder: Path) -> list[str]:
    # Hidden files and folders are no images: archives of macOS leave ._name.jpg, Jupyter .ipynb_checkpoints/.
    found, seen = [], set()
    for place, inside, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or (place != str(folder) and os.path.realpath(folder).startswith(real + os.sep)):
            inside.clear()  # a link to a folder that was read already, or to one above
            continue
        seen.add(real)
        inside[:] = [name for name in inside if name[0] != "."]
        found += [f"{place}{os.sep}{n}" for n in names if n.lower().endswith(EXTENSIONS) and n[0] != "."]
    return sorted(found)


def _missing(folder: Path) -> str:
    file = next((place for place in (folder, *folder.parents) if place.is_file()), None)
    if file is not None:
        mend = "unpack it and give the folder" if file.name.lower().endswith(ARCHIVES) else "a folder is needed"
        return f"{file}, in data.root, is a file; {mend}."
    parent = next(place for place in folder.parents if place.is_dir())
    # The first component of the path that is not there is the one that may be misspelt.
    wrong = folder.relative_to(parent).parts[0]
    inside = [name for name in subfolders(parent) if not holds_runs(parent / name)]
    but = f", but {listed(inside)}" if inside else ""
    return f"the folder {folder} does not exist: {parent} holds no {wrong!r}{but}.{suggest(wrong, inside, 0.7)}"


def holds_runs(folder: Path) -> bool:
    """Whether a folder is a run or holds some, as the one that a run makes before it looks for its images."""
    return any(next(folder.glob(f"{place}config.yaml"), None) for place in ("", "*/"))


def listed(names: Sequence[str], nothing: str = "nothing") -> str:
    """The names in quotes, the first ten of many."""
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown or nothing
