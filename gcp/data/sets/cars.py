"""Stanford Cars: 196 models of cars, 8,144 images to train and 8,041 to test.

Four layouts are in use:

    car_ims/, cars_annos.mat                       one file with both splits, `test` is 0 or 1
    cars_train/, cars_test/, and .mat files        a file for each split, in the same folder or in a devkit/
    cars_train/cars_train/, cars_test/cars_test/   the same, one folder deeper
    train/CLASS/, test/CLASS/                      no .mat file

Labels in the files go from 1. The devkit's own cars_test_annos.mat has no labels: those were published later, as
cars_test_annos_withlabels.mat.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from gcp.data.annotations.layout import locate
from gcp.data.annotations.listing import Files, Listing, path_inside
from gcp.data.annotations.matlab import fields, labels_from_one, read_mat, texts, whole_numbers
from gcp.data.sets import folder
from gcp.data.source import DATASETS, on_disk
from gcp.errors import DataError

ONE_FILE = "car_ims/ and cars_annos.mat"
DEEPER = "cars_train/cars_train/, cars_test/cars_test/ and a .mat file for each"
DEVKIT = "cars_train/, cars_test/ and a .mat file for each"
FOLDERS = "train/CLASS/ and test/CLASS/"
LAYOUTS = {
    ONE_FILE: ("car_ims", "cars_annos.mat"),
    DEEPER: ("cars_train/cars_train", "cars_test/cars_test"),
    DEVKIT: ("cars_train", "cars_test"),
    FOLDERS: ("train", "test"),
}
# Where downloads have the .mat files, beside the folders of images.
PLACES = ("", "devkit", "car_devkit", "car_devkit/devkit")
# The second name is the one that a browser gives to a second download.
LABELLED = ("cars_test_annos_withlabels.mat", "cars_test_annos_withlabels (1).mat")


def listing(root: Path) -> Listing:
    """Both splits of Stanford Cars in `root`."""
    layout, place = locate(root, LAYOUTS)
    if layout == FOLDERS:
        note = "Classes are numbered by their folders in sorted order, not by the annotations."
        found = folder.listing(place)
        return replace(found, layout=layout, notes=(*found.notes, note))
    return _one_file(place) if layout == ONE_FILE else _devkit(place, layout)


def _one_file(place: Path) -> Listing:
    path = place / "cars_annos.mat"
    records, names = read_mat(path, "annotations", "class_names")
    stored, numbers, tested = fields(path, records, "relative_im_path", "class", "test")
    files, labels = texts(path, stored), labels_from_one(path, numbers, len(names))
    is_test = whole_numbers(path, tested) != 0
    splits = {}
    for name, chosen in (("train", ~is_test), ("test", is_test)):
        paths = tuple(path_inside(path, place, files[index]) for index in np.flatnonzero(chosen))
        splits[name] = Files(paths, labels[chosen])
    return Listing(ONE_FILE, tuple(texts(path, names)), splits)


def _devkit(place: Path, layout: str) -> Listing:
    names = _class_names(place)
    splits = {}
    for split, path in (("train", _annotations(place, "cars_train_annos.mat")), ("test", _test_annotations(place))):
        (records,) = read_mat(path, "annotations")
        if split == "test" and "class" not in (records.dtype.names or ()):
            raise DataError(_unlabelled(path, place))
        files, numbers = fields(path, records, "fname", "class")
        images = place / f"cars_{split}"
        if layout == DEEPER:
            images /= f"cars_{split}"
        paths = tuple(path_inside(path, images, file) for file in texts(path, files))
        splits[split] = Files(paths, labels_from_one(path, numbers, len(names)))
    return Listing(layout, names, splits)


def _class_names(place: Path) -> tuple[str, ...]:
    """From cars_meta.mat, or from cars_annos.mat, which holds the same list."""
    path = _find(place, "cars_meta.mat", "cars_annos.mat") or _annotations(place, "cars_meta.mat")
    return tuple(texts(path, read_mat(path, "class_names")[0]))


def _test_annotations(place: Path) -> Path:
    bare = _find(place, "cars_test_annos.mat")
    if _find(place, *LABELLED) is None and bare is not None:
        raise DataError(_unlabelled(bare, place))
    return _annotations(place, *LABELLED)


def _unlabelled(path: Path, place: Path) -> str:
    return (
        f"{path} has no labels, so there is nothing to score on: the labels of the test images are in {LABELLED[0]}. "
        f"Put that file into {place}, or into its devkit/."
    )


def _annotations(place: Path, *names: str) -> Path:
    path = _find(place, *names)
    if path is None:
        beside = " It has cars_annos.mat, but that one describes car_ims/." if _find(place, "cars_annos.mat") else ""
        looked = ", ".join(f"{part}/" for part in PLACES if part)
        raise DataError(f"{place} has no {names[0]}. Looked there and in {looked}.{beside}")
    return path


def _find(place: Path, *names: str) -> Path | None:
    places = [place / part / name for name in names for part in PLACES]
    return next((path for path in places if path.is_file()), None)


DATASETS.add(
    "cars",
    on_disk(listing, classes=196, counts={"train": 8144, "test": 8041}, image_size=448, default="square"),
    summary="Stanford Cars: 196 models of cars; 8,144 images to train, 8,041 to test",
    paper="Krause et al. 2013, 3D Object Representations for Fine-Grained Categorization, 3dRR",
)
