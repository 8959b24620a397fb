"""ImageNet-1k (ILSVRC 2012): 1,000 classes, 1,281,167 images to train; the 50,000 validation images are the test
split, since results are quoted on them, and a validation split is held out of train.

    train/WNID/, val/WNID/                        or the two inside of ILSVRC/Data/CLS-LOC/, as Kaggle has them
    train/WNID/, val/ILSVRC2012_val_%08d.JPEG     the labels are in a file, see gcp.data.annotations.imagenet_labels

A class is a WordNet id, and its label its place among the sorted ids, as in the weights of torchvision and timm.
"""

import os
from pathlib import Path

from gcp.data.annotations.imagenet_labels import read_labels
from gcp.data.annotations.layout import locate, same_classes, scan
from gcp.data.annotations.listing import Files, Listing, by_class
from gcp.data.disk import on_disk
from gcp.data.files import EXTENSIONS
from gcp.data.source import DATASETS

LAYOUTS = {
    "{train,val}": ("train", "val"),
    "Data/CLS-LOC/{train,val}": ("Data/CLS-LOC/train", "Data/CLS-LOC/val"),
    "ILSVRC/Data/CLS-LOC/{train,val}": ("ILSVRC/Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/val"),
}


def listing(root: Path) -> Listing:
    """Train and val of ImageNet-1k in `root`, val as the test split."""
    layout, place = locate(root, LAYOUTS)
    images = (place / LAYOUTS[layout][0]).parent
    train = scan(images / "train")
    classes = tuple(train)
    note = "The folder 'val' is the test split, as in published results."
    with os.scandir(images / "val") as entries:
        flat = sorted(e.name for e in entries if e.name.lower().endswith(EXTENSIONS) and e.name[0] != ".")
    if flat:
        labels, file = read_labels(images / "val", flat, classes)
        test = Files(tuple(f"{images}/val/{name}" for name in flat), labels)
        layout += f", val/ without folders, labels of {file.name}"
    else:
        found = {"train": train, "val": scan(images / "val")}
        same_classes(images, found)
        test = by_class(list(found["val"].values()))
    return Listing(layout, classes, {"train": by_class(list(train.values())), "test": test}, (note,))


DATASETS.add(
    "imagenet",
    on_disk(
        listing,
        classes=1000,
        counts={"train": 1281167, "test": 50000},
        image_size=224,
        transform="random_resized_crop",
    ),
    summary="ImageNet-1k (ILSVRC 2012): 1,000 classes; 1,281,167 images to train, 50,000 to test",
    paper="Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge, IJCV",
)
