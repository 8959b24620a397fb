"""The descriptors of the images of a folder, into a file: what the head gives, before the classifier."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gcp.command import install
from gcp.data import Loader
from gcp.engine.device import ToDevice, autocast
from gcp.errors import DataError, GCPError
from gcp.evaluation.unlabelled import ReadableSet, file_set, images_in, report_unreadable
from gcp.runs.scored_model import ScoredModel, descriptors

FORMS = (".npz", ".parquet")


@dataclass(frozen=True)
class Embedding:
    """Descriptors (N, D) float32 of the images at `files`; `labels` (N,) into `classes`, the folders that they lie in,
    where every image lies in one. `unreadable`: how many images are left out.
    """

    descriptors: Tensor
    files: tuple[str, ...]
    labels: Tensor | None
    classes: tuple[str, ...]
    unreadable: int


@torch.inference_mode()
def embed(scored_model: ScoredModel, folder: str) -> Embedding:
    """The descriptors of all images in a folder and below.

    Raises:
        DataError: no images, or none that can be read.
    """
    paths = images_in(folder)
    images = file_set(scored_model, paths, ReadableSet)
    config, device = scored_model.config, scored_model.device
    loader = Loader(images, config.evaluate.batch_size, train=False, workers=config.data.workers)
    to_device = ToDevice(device, loader.normalize, config.run.channels_last)
    scored_model.model.eval()
    found: Tensor | None = None
    read, start = torch.zeros(len(paths), dtype=torch.int64), 0
    for pixels, labels in loader.epoch(0):
        with autocast(device, config.run.amp):
            some = descriptors(scored_model.model, to_device(pixels, labels)[0]).float().cpu()
        found = torch.zeros(len(paths), some.shape[1]) if found is None else found
        found[start : start + len(some)], read[start : start + len(some)] = some, labels
        start += len(some)
    assert found is not None
    lost = report_unreadable(images, read)
    kept = [place for place in range(len(paths)) if place not in lost]
    files = tuple(paths[place] for place in kept)
    labels_of, classes = _classes(folder, files)
    return Embedding(found[kept] if lost else found, files, labels_of, classes, len(lost))


def _classes(folder: str, files: tuple[str, ...]) -> tuple[Tensor | None, tuple[str, ...]]:
    """The class of each file, by the first folder below `folder`; None where a file lies in no such folder."""
    parts = [Path(file).relative_to(Path(folder).expanduser()).parts for file in files]
    if any(len(each) < 2 for each in parts):
        return None, ()
    names = tuple(sorted({each[0] for each in parts}))
    places = {name: place for place, name in enumerate(names)}
    return torch.tensor([places[each[0]] for each in parts]), names


def check_form(file: str) -> None:
    """Raise GCPError for a file of another ending, and for Parquet without the package."""
    if Path(file).suffix not in FORMS:
        raise GCPError(f"cannot write {file}: allowed are files that end in {' or '.join(FORMS)}")
    if Path(file).suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise GCPError(f"a file .parquet needs the package pyarrow: {install('data')}; or write .npz") from error


def write(found: Embedding, file: str) -> None:
    """Descriptors, files and, where there are, labels and their names. In NumPy: `numpy.load(FILE)["descriptors"]`."""
    values = found.descriptors.numpy()
    try:
        if Path(file).suffix == ".npz":
            arrays = {"descriptors": values, "files": np.array(found.files)}
            if found.labels is not None:
                arrays |= {"labels": found.labels.numpy(), "classes": np.array(found.classes)}
            np.savez(file, **arrays)  # type: ignore[arg-type]
            return
        import pyarrow
        import pyarrow.parquet

        flat = pyarrow.array(values.ravel())
        columns = {"file": pyarrow.array(found.files)}
        if found.labels is not None:
            columns["class"] = pyarrow.array([found.classes[label] for label in found.labels.tolist()])
        columns["descriptor"] = pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
        pyarrow.parquet.write_table(pyarrow.table(columns), file)
    except OSError as error:
        raise GCPError(f"cannot write {file}: {error}") from error


def labelled(found: Embedding, folder: str) -> Tensor:
    """The labels. Raises DataError where there are none."""
    if found.labels is None:
        raise DataError(f"{folder} has images in no class folder; to be scored they lie in {folder}/CLASS/")
    return found.labels
