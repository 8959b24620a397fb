"""FGVC-Aircraft, labelled by variant: 100 variants, 6,667 images to train and 3,333 to test.

    fgvc-aircraft-2013b/data/{images/, variants.txt, images_variant_{trainval,test}.txt}

A line of a list is `IMAGE VARIANT`; variants have spaces and slashes in their names ("F/A-18"). Results are quoted
after training on train and val together, which is the list trainval; validation images are held out of it here.
"""

from pathlib import Path

import numpy as np

from gcp.data.annotations.layout import locate
from gcp.data.annotations.listing import Files, Listing, path_inside, read_lines
from gcp.data.source import DATASETS, on_disk
from gcp.errors import DataError, suggest

# The last is the folder data/ itself.
LAYOUTS = {
    "fgvc-aircraft-2013b/data/": ("data/images", "data/variants.txt"),
    "data/ of fgvc-aircraft-2013b": ("images", "variants.txt"),
}
LISTS = {"train": "images_variant_trainval.txt", "test": "images_variant_test.txt"}


def listing(root: Path) -> Listing:
    """Train (the list trainval) and test of FGVC-Aircraft in `root`."""
    layout, place = locate(root, LAYOUTS)
    data = (place / LAYOUTS[layout][0]).parent
    variants = tuple(read_lines(data / "variants.txt"))
    splits = {split: _split(data, name, variants) for split, name in LISTS.items()}
    return Listing(f"{layout} by variant, trained on trainval", variants, splits)


def _split(data: Path, name: str, variants: tuple[str, ...]) -> Files:
    numbers = {variant: number for number, variant in enumerate(variants)}
    paths, labels = [], []
    for line in read_lines(data / name):
        image, _, variant = line.partition(" ")
        if variant not in numbers:
            hint = suggest(variant, variants)
            raise DataError(f"{data / name} has the line {line!r}; {variant!r} is not in variants.txt.{hint}")
        paths.append(path_inside(data / name, data / "images", f"{image}.jpg"))
        labels.append(numbers[variant])
    return Files(tuple(paths), np.array(labels, dtype=np.int64))


DATASETS.add(
    "aircraft",
    on_disk(listing, classes=100, counts={"train": 6667, "test": 3333}, image_size=448, default="square_crop"),
    summary="FGVC-Aircraft: 100 variants; 6,667 images to train (trainval), 3,333 to test",
    paper="Maji et al. 2013, Fine-Grained Visual Classification of Aircraft, arXiv:1306.5151",
)
