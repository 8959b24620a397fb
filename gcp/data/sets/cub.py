"""CUB-200-2011: 200 species of birds, 5,994 images to train and 5,794 to test.

CUB_200_2011/{images/, images.txt, image_class_labels.txt, train_test_split.txt, classes.txt}
train/CLASS/ and test/CLASS/, or val/CLASS/ in place of test/
"""

from dataclasses import replace
from pathlib import Path

from gcp.data.annotations.layout import locate
from gcp.data.annotations.listing import ID_LISTS, Listing, read_id_lists
from gcp.data.sets import folder
from gcp.data.source import DATASETS, on_disk

ANNOTATED = f"CUB_200_2011/{{{', '.join(ID_LISTS)}}}"
LAYOUTS = {
    ANNOTATED: ID_LISTS,
    "train/CLASS/ and test/CLASS/": ("train", "test"),
    "train/CLASS/ and val/CLASS/": ("train", "val"),
}


def listing(root: Path) -> Listing:
    """Both splits of CUB-200-2011 in `root`."""
    layout, place = locate(root, LAYOUTS)
    if layout == ANNOTATED:
        return read_id_lists(place, layout, folder=lambda _, name: name)
    return replace(folder.listing(place), layout=layout)


DATASETS.add(
    "cub",
    on_disk(listing, classes=200, counts={"train": 5994, "test": 5794}, image_size=448, default="center_crop"),
    summary="CUB-200-2011: 200 species of birds; 5,994 images to train, 5,794 to test",
    paper="Wah et al. 2011, The Caltech-UCSD Birds-200-2011 Dataset",
)
