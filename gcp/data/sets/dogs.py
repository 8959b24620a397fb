"""Stanford Dogs: 120 breeds, 12,000 images to train and 8,580 to test.

    Images/n02085620-Chihuahua/*.jpg, train_list.mat, test_list.mat

The lists hold `file_list`, paths inside Images/, and `labels` from 1; they may lie in a folder lists/. The images were
taken from ImageNet: a network trained on ImageNet has seen many of the test images, with their breeds as labels.
"""

from pathlib import Path

import numpy as np

from gcp.data.annotations.layout import locate
from gcp.data.annotations.listing import Files, Listing, path_inside
from gcp.data.annotations.matlab import labels_from_one, read_mat, texts, whole_numbers
from gcp.data.source import DATASETS, on_disk
from gcp.errors import DataError

# The deeper one first: the folder that it lies in would pass for another data set.
LAYOUTS = {
    "Images/ and lists/{train_list.mat, test_list.mat}": ("lists/train_list.mat", "lists/test_list.mat"),
    "Images/, train_list.mat and test_list.mat": ("train_list.mat", "test_list.mat"),
}
IMAGES = ("images/Images", "Images", "images")
NOTE = (
    "The images come from ImageNet: a backbone pretrained on ImageNet has seen test images of this set, so its "
    "accuracy is too high to compare with one that has not."
)


def listing(root: Path) -> Listing:
    """Both splits of Stanford Dogs in `root`."""
    layout, place = locate(root, LAYOUTS)
    images = next((place / name for name in IMAGES if (place / name).is_dir()), None)
    if images is None:
        raise DataError(f"{place} has the lists of Stanford Dogs and no images: looked for {'/, '.join(IMAGES)}/.")
    found = {split: _read(place / path) for split, path in zip(("train", "test"), LAYOUTS[layout], strict=True)}
    breeds = _breeds(place, [pair for pairs in found.values() for pair in zip(*pairs, strict=True)])
    splits = {
        split: Files(tuple(path_inside(place, images, file) for file in files), labels)
        for split, (files, labels) in found.items()
    }
    return Listing(layout, breeds, splits, (NOTE,))


def _read(path: Path) -> tuple[list[str], np.ndarray]:
    files, numbers = read_mat(path, "file_list", "labels")
    if len(files) != len(numbers):
        raise DataError(f"{path} has {len(files)} files and {len(numbers)} labels; there should be as many.")
    labels = whole_numbers(path, numbers)
    return texts(path, files), labels_from_one(path, labels, labels.max(initial=0))


def _breeds(place: Path, pairs: list[tuple[str, int]]) -> tuple[str, ...]:
    """The breed of each label, from the folder of its files. Raises DataError where a label has none or two."""
    folders: dict[int, str] = {}
    for file, label in pairs:
        name = file.rpartition("/")[0]
        if folders.setdefault(int(label), name) != name:
            raise DataError(f"the lists in {place} give label {label + 1} to {folders[int(label)]!r} and to {name!r}.")
    lacking = sorted(set(range(max(folders, default=0) + 1)) - set(folders))
    if lacking:
        raise DataError(f"the lists in {place} have no image with label {lacking[0] + 1}.")
    return tuple(folders[label].partition("-")[2] or folders[label] for label in range(len(folders)))


DATASETS.add(
    "dogs",
    on_disk(listing, classes=120, counts={"train": 12_000, "test": 8580}, image_size=448, default="square_crop"),
    summary="Stanford Dogs: 120 breeds; 12,000 images to train, 8,580 to test, taken from ImageNet",
    paper="Khosla et al. 2011, Novel Dataset for Fine-Grained Image Categorization, FGVC",
)
