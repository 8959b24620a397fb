"""Predictions for images without labels, with the names of the classes that the model gives them."""

from pathlib import Path

from gcp.data.decode import EXTENSIONS
from gcp.data.images import FileSet
from gcp.engine.distributed import Group
from gcp.errors import DataError, GCPError, suggest
from gcp.evaluation.files import prediction_rows, write_csv
from gcp.runs.scored_model import ScoredModel


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
    every = (path for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    found = sorted(str(path) for path in every if all(part[0] != "." for part in path.relative_to(root).parts))
    if not found:
        raise DataError(f"no image in {folder}: looked for {', '.join(EXTENSIONS)}")
    return found


def file_set(scored_model: ScoredModel, paths: list[str]) -> FileSet:
    """Files as a model takes them; their labels are 0 and mean nothing."""
    transform, in_chans = scored_model.file_transform(), scored_model.config.data.in_chans
    return FileSet(paths, [0] * len(paths), transform, in_chans, scored_model.as_shown)


def class_names(scored_model: ScoredModel) -> tuple[str, ...]:
    """Of the file, else of the data set where it is there, else numbers."""
    if scored_model.classes is not None:
        return scored_model.classes
    try:
        return scored_model.splits().classes
    except GCPError:
        print(
            f"classes     by number: {scored_model.given} tells no names; add data.name=NAME data.root=FOLDER for them"
        )
        return tuple(f"class {number}" for number in range(scored_model.model.num_classes))


def predict(scored_model: ScoredModel, folder: str, file: str = "predictions.csv", *, group: Group) -> None:
    """Write the best classes of every image in a folder.

    Raises:
        DataError: no images, or one that cannot be read.
    """
    paths = images_in(folder)
    names = class_names(scored_model)
    samples = scored_model.run(file_set(scored_model, paths), group)
    if group.main:
        write_csv(file, prediction_rows(samples, names, paths, labelled=False))
    print(f"{'images':<12}{len(paths)} in {folder}\n{'predictions':<12}{file}")
