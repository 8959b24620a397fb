"""ImageNet-1k (ILSVRC 2012): 1,000 classes, 1,281,167 images to train; the 50,000 validation images are the test
split, since results are quoted on them, and a validation split is held out of train.

    train/WNID/, val/WNID/                        or the two inside of ILSVRC/Data/CLS-LOC/, as Kaggle has them
    train/WNID/, val/ILSVRC2012_val_%08d.JPEG     the labels are in a file, see below

A class is a WordNet id, and its label its place among the sorted ids, as in the weights of torchvision and timm.
Where the validation images lie in one folder, a file has their labels:

    ILSVRC2012_validation_ground_truth.txt   of the devkit: a number per line, 1 to 1000, explained by meta.mat
    LOC_val_solution.csv                     of Kaggle: "ImageId,PredictionString", which begins with the WordNet id
    val.txt and the like                     "NAME LABEL" or "LABEL", the label a WordNet id, or its place, from 0,
                                             among the sorted ids

The numbers of the devkit are not places among the sorted ids: taken for these they score at chance. So numbers from
1 to 1000 are only read with meta.mat beside them.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gcp.data.annotations.layout import listed, locate, scan, scan_splits
from gcp.data.annotations.listing import Files, Listing, by_class, read_lines
from gcp.data.annotations.matlab import fields, read_mat
from gcp.data.decode import EXTENSIONS
from gcp.data.source import DATASETS, on_disk
from gcp.errors import DataError

LAYOUTS = {
    "{train,val}": ("train", "val"),
    "Data/CLS-LOC/{train,val}": ("Data/CLS-LOC/train", "Data/CLS-LOC/val"),
    "ILSVRC/Data/CLS-LOC/{train,val}": ("ILSVRC/Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/val"),
}
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
KAGGLE = "LOC_val_solution.csv"
PLAIN = ("val.txt", "val_labels.txt", "imagenet_2012_validation_synset_labels.txt", "synset_labels.txt")
DEVKIT = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data", "")


def listing(root: Path) -> Listing:
    """Train and val of ImageNet-1k in `root`, val as the test split."""
    layout, place = locate(root, LAYOUTS)
    images = (place / LAYOUTS[layout][0]).parent
    note = "The folder 'val' is the test split, as in published results."
    with os.scandir(images / "val") as entries:
        flat = sorted(e.name for e in entries if e.name.lower().endswith(EXTENSIONS) and e.name[0] != ".")
    if flat:
        train, faults = scan(images / "train")
        classes = tuple(train)
        labels, file = read_labels(images / "val", flat, classes)
        test = Files(tuple(f"{images}/val/{name}" for name in flat), labels)
        layout += f", val/ without folders, labels of {file.name}"
    else:
        found, faults = scan_splits(images, ("train", "val"))
        train, classes = found["train"], tuple(found["train"])
        test = by_class(list(found["val"].values()))
    return Listing(layout, classes, {"train": by_class(list(train.values())), "test": test}, (note,), tuple(faults))


def read_labels(val: Path, names: Sequence[str], classes: Sequence[str]) -> tuple[np.ndarray, Path]:
    """The labels (N,) int64 of the files `names`, sorted, in the folder `val`, and the file that has them.

    classes: the sorted WordNet ids. Raises DataError where no file has the labels, or does not fit.
    """
    file = _find(val)
    if file is None:
        raise DataError(
            f"{val} holds {len(names)} images in no class folder, and no file with their labels is there. Looked in "
            f"{val}, in the folders above and in a devkit there for {listed((GROUND_TRUTH, KAGGLE, *PLAIN))}. "
            "Put one of them beside the folder, or move the images to val/WNID/."
        )
    if file.name == GROUND_TRUTH:
        words = _in_order(file, names, _devkit_words(file))
    elif file.name == KAGGLE:
        words = _by_name(file, names, _kaggle_words(file))
    else:
        lines = [line.split() for line in read_lines(file)]
        if all(len(line) == 1 for line in lines):
            words = _in_order(file, names, [word for (word,) in lines])
        elif all(len(line) == 2 for line in lines):
            words = _by_name(file, names, {Path(name).stem: word for name, word in lines})
        else:
            raise DataError(f"the lines of {file} should all be 'NAME LABEL', or all 'LABEL'.")
    return _labels(file, words, classes), file


def _find(val: Path) -> Path | None:
    """The file with the labels: beside the images or the folder val, or for the known names also further up."""
    near = [val, *list(val.parents)[:2]]
    # ILSVRC/Data/CLS-LOC/val: Kaggle's file lies beside ILSVRC.
    places = [place / part / GROUND_TRUTH for place in near for part in DEVKIT]
    places += [place / KAGGLE for place in (val, *list(val.parents)[:4])]
    places += [place / name for place in near[:2] for name in PLAIN]
    return next((place for place in places if place.is_file()), None)


def _devkit_words(file: Path) -> list[str]:
    """WordNet ids of the lines, by the table of numbers in meta.mat."""
    meta = next(
        (place / "meta.mat" for place in (file.parent, file.parent / "data") if (place / "meta.mat").is_file()), None
    )
    if meta is None:
        raise DataError(
            f"{file} has the numbers of the ILSVRC devkit, which are not in the order of the classes: {file.parent} "
            "must also hold the devkit's meta.mat, which explains them."
        )
    (records,) = read_mat(meta, "synsets")
    numbers, wnids = fields(meta, records, "ILSVRC2012_ID", "WNID")
    table = {str(int(number)): str(wnid) for number, wnid in zip(numbers, wnids, strict=True)}
    lines = read_lines(file)
    unknown = [line for line in lines if line not in table]
    if unknown:
        raise DataError(f"{file} has the line {unknown[0]!r}, and {meta} has no class of that number.")
    return [table[line] for line in lines]


def _kaggle_words(file: Path) -> dict[str, str]:
    pairs = [line.split(",", 1) for line in read_lines(file)[1:]]
    wrong = [pair for pair in pairs if len(pair) != 2 or not pair[1].split()]
    if wrong:
        raise DataError(f"{file} has the line {','.join(wrong[0])!r}; each should be 'IMAGE,WNID X Y X Y'.")
    return {name: prediction.split()[0] for name, prediction in pairs}


def _in_order(file: Path, names: Sequence[str], words: list[str]) -> list[str]:
    if len(words) != len(names):
        raise DataError(f"{file} has {len(words)} labels for {len(names)} images. One of the two is not complete.")
    for number, name in enumerate(names, 1):
        # Other names need not sort in the order of the labels.
        if not re.search(rf"(^|\D)0*{number}$", Path(name).stem):
            raise DataError(
                f"{file} has labels in the order of the numbers in ILSVRC2012_val_00000001.JPEG and so on; image "
                f"{number} is called {name}. Give the images their names back, or write val.txt with 'NAME LABEL'."
            )
    return words


def _by_name(file: Path, names: Sequence[str], words: Mapping[str, str]) -> list[str]:
    stems = [Path(name).stem for name in names]
    without, lost = [name for name in stems if name not in words], sorted(set(words) - set(stems))
    if without or lost:
        first = f"no label for {without[0]!r}" if without else f"no image for {lost[0]!r}"
        raise DataError(f"{file} has {len(words)} labels for {len(names)} images: {first}.")
    return [words[stem] for stem in stems]


def _labels(file: Path, words: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Places among the classes, of WordNet ids or of numbers that are places already."""
    table = {wnid: label for label, wnid in enumerate(classes)}
    if all(word.isdecimal() for word in words):
        numbers = {int(word) for word in words}
        if 0 not in numbers:
            raise DataError(_from_one(file, numbers, len(classes)))
        table = {str(label): label for label in range(len(classes))}
    unknown = sorted({word for word in words if word not in table})
    if unknown:
        raise DataError(
            f"{file} has labels that are no classes of train/: {listed(unknown)}; "
            f"allowed: {classes[0]} to {classes[-1]}, or 0 to {len(classes) - 1}."
        )
    return np.array([table[word] for word in words], dtype=np.int64)


def _from_one(file: Path, numbers: set[int], count: int) -> str:
    return (
        f"the labels in {file} go from {min(numbers)} to {max(numbers)}, without 0; places among the {count} sorted "
        f"WordNet ids go from 0 to {count - 1}. Numbers of the ILSVRC devkit need its meta.mat: name the file "
        f"{GROUND_TRUTH} and put meta.mat beside it. If the file counts sorted ids from 1, subtract 1."
    )


DATASETS.add(
    "imagenet",
    on_disk(
        listing,
        classes=1000,
        counts={"train": 1281167, "test": 50000},
        image_size=224,
        default="random_resized_crop",
    ),
    summary="ImageNet-1k (ILSVRC 2012): 1,000 classes; 1,281,167 images to train, 50,000 to test",
    paper="Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge, IJCV",
)
