"""Predictions for images without labels, with the names of the classes that the model gives them.

An image that cannot be read is left out and told at the end: among thousands there is often one.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gcp.data.decode import EXTENSIONS, decode
from gcp.data.images import FileSet, Indices
from gcp.engine.distributed import Group
from gcp.errors import DataError, GCPError, counted, suggest
from gcp.evaluation.files import prediction_rows, write_csv
from gcp.runs.scored_model import ScoredModel

UNREADABLE = -100  # the label that the cross-entropy of torch leaves out
SOME_LEFT_OUT = 3  # exit code where images could not be read
SHOWN = 20


class ReadableSet(FileSet):
    """Files of which those that cannot be read are black images with the label UNREADABLE."""

    def read(self, indices: Indices, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        places, lost = np.asarray(indices, dtype=np.int64), []  # type: ignore[var-annotated]
        images = self.transform(self._readable(places, lost), seeds)
        labels = torch.from_numpy(self.labels[places])  # a copy
        labels[lost] = UNREADABLE
        return images, labels

    def _readable(self, places: np.ndarray, lost: list[int]) -> Iterator[Tensor]:
        for number, place in enumerate(places):
            try:
                yield decode(self.paths[place], self.in_chans, self.as_shown)
            except DataError:
                lost.append(number)
                yield torch.zeros(self.in_chans, 8, 8, dtype=torch.uint8)

    def why(self, place: int) -> str:
        """What is wrong with the file at `place`."""
        try:
            decode(self.paths[place], self.in_chans, self.as_shown)
        except DataError as error:
            return str(error)
        return f"{self.paths[place]} could not be read before"


def images_in(folder: str) -> list[str]:
    """Every image file in a folder and the folders in it, sorted.

    Raises:
        DataError: no such folder, or no image in it.
    """
    root = Path(folder).expanduser()
    if root.is_file():
        raise DataError(f"{folder} is a file; give the folder of images that it lies in: {root.parent}")
    if not root.is_dir():
        there = [place.name for place in root.parent.iterdir() if place.is_dir()] if root.parent.is_dir() else []
        raise DataError(f"no folder {folder} of images.{suggest(root.name, there)}")
    every = (path for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    found = sorted(str(path) for path in every if all(part[0] != "." for part in path.relative_to(root).parts))
    if not found:
        raise DataError(f"no image in {folder}: looked for {', '.join(EXTENSIONS)}")
    return found


def file_set(scored_model: ScoredModel, paths: list[str], kind: type[FileSet] = FileSet) -> FileSet:
    """Files as a model takes them; their labels are 0 and mean nothing."""
    transform, in_chans = scored_model.file_transform(), scored_model.config.data.in_chans
    return kind(paths, [0] * len(paths), transform, in_chans, scored_model.as_shown)


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


def predict(scored_model: ScoredModel, folder: str, file: str = "predictions.csv", *, group: Group) -> int:
    """Write the best classes of every image in a folder. Returns the exit code: 3 where images could not be read, which
    are listed.

    Raises:
        DataError: no images, or none that can be read.
    """
    paths = images_in(folder)
    names = class_names(scored_model)
    images = file_set(scored_model, paths, ReadableSet)
    samples = scored_model.run(images, group)
    lost = report_unreadable(images, samples.labels)
    if group.main:
        rows = prediction_rows(samples, names, paths, labelled=False)
        write_csv(file, [row for place, row in enumerate(rows) if place not in lost])
    print(f"{'images':<12}{len(paths) - len(lost)} in {folder}\n{'predictions':<12}{file}")
    return SOME_LEFT_OUT if lost else 0


def report_unreadable(images: FileSet, labels: Tensor) -> set[int]:
    """Print which images of a ReadableSet could not be read, and return their places. `labels`: of all, as read.

    Raises DataError where none could be read.
    """
    assert isinstance(images, ReadableSet)
    lost = torch.nonzero(labels == UNREADABLE).flatten().tolist()
    if len(lost) == len(images):
        raise DataError(images.why(0))
    if lost:
        print(f"{'left out':<12}{counted(len(lost), 'image')} that cannot be read:")
        print("".join(f"  {images.why(place)}\n" for place in lost[:SHOWN]), end="")
        if len(lost) > SHOWN:
            print(f"  and {len(lost) - SHOWN} more")
    return set(lost)
