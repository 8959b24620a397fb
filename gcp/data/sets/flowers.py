"""Oxford Flowers: 102 species; 1,020 images to train, 1,020 to validate, 6,149 to test.

    flowers-102/{jpg/image_00001.jpg, imagelabels.mat, setid.mat}

`labels` go from 1, one for each image in the order of their numbers; `trnid`, `valid` and `tstid` are numbers of
images. The files name no species; the names are torchvision's.
"""

import os
from pathlib import Path

from gcp.data.annotations.layout import locate
from gcp.data.annotations.listing import Files, Listing
from gcp.data.annotations.matlab import labels_from_one, read_mat, whole_numbers
from gcp.data.source import DATASETS, on_disk
from gcp.errors import DataError

LAYOUTS = {"jpg/ with imagelabels.mat and setid.mat": ("jpg", "imagelabels.mat", "setid.mat")}


def listing(root: Path) -> Listing:
    """The three splits of Oxford Flowers in `root`."""
    from torchvision.datasets import Flowers102

    layout, place = locate(root, LAYOUTS)
    (numbers,) = read_mat(place / "imagelabels.mat", "labels")
    labels = labels_from_one(place / "imagelabels.mat", numbers, len(Flowers102.classes))
    splits = {}
    chosen = read_mat(place / "setid.mat", "trnid", "valid", "tstid")
    for split, stored in zip(("train", "val", "test"), chosen, strict=True):
        images = whole_numbers(place / "setid.mat", stored)
        if len(images) and not 1 <= images.min() <= images.max() <= len(labels):
            raise DataError(
                f"{place / 'setid.mat'} numbers the images of {split} from {images.min()} to {images.max()}, but "
                f"imagelabels.mat has labels for 1 to {len(labels)}."
            )
        paths = tuple(os.path.join(place, "jpg", f"image_{image:05d}.jpg") for image in images)
        splits[split] = Files(paths, labels[images - 1])
    species = Flowers102.classes[: labels.max(initial=-1) + 1]
    return Listing(layout, tuple(species), splits)


DATASETS.add(
    "flowers",
    on_disk(
        listing,
        classes=102,
        counts={"train": 1020, "val": 1020, "test": 6149},
        image_size=448,
        default="center_crop",
    ),
    summary="Oxford Flowers: 102 species; 1,020 images to train, 1,020 to validate, 6,149 to test",
    paper="Nilsback and Zisserman 2008, Automated Flower Classification over a Large Number of Classes, ICVGIP",
)
