"""Images without labels, and the names of the classes that a model gives them."""

from pathlib import Path

from gcp.data.decode import EXTENSIONS
from gcp.data.images import FileSet
from gcp.errors import DataError, GCPError, suggest
from gcp.runs.scored_model import Contestant


def images_in(folder: str) -> list[str]:
    """Every image file in a folder and the folders in it, sorted.

    Raises:
        DataError: no such folder, or no image in it.
    """
    root = Path(folder).expanduser()
    if root.is_file():
        raise DataError(f"{folder} is a file; --predict takes the folder of images that it lies in: {root.parent}")
    if not root.is_dir():
        there = [place.name for place in root.parent.iterdir() if place.is_dir()] if root.parent.is_dir() else []
        raise DataError(f"no folder {folder} of images.{suggest(root.name, there)}")
    found = sorted(str(path) for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not found:
        raise DataError(f"no image in {folder}: looked for {', '.join(EXTENSIONS)}")
    return found


def file_set(contestant: Contestant, paths: list[str]) -> FileSet:
    """Files as a model takes them; their labels are 0 and mean nothing."""
    return FileSet(paths, [0] * len(paths), contestant.file_transform(), contestant.config.data.in_chans)


def class_names(contestant: Contestant) -> tuple[str, ...]:
    """Of the file, else of the data set where it is there, else numbers."""
    if contestant.classes is not None:
        return contestant.classes
    try:
        return contestant.splits().classes
    except GCPError:
        print(f"classes     by number: {contestant.given} tells no names; add data.name=NAME data.root=FOLDER for them")
        return tuple(f"class {number}" for number in range(contestant.model.num_classes))
