"""NABirds: 555 visual categories of North American birds, 23,929 images to train and 24,633 to test.

    nabirds/{images/, images.txt, image_class_labels.txt, train_test_split.txt, classes.txt}

classes.txt is a hierarchy of 1,011 nodes, numbered from 0 with the root; its 555 leaves have images, and are the
classes, in the order of their numbers.
"""

from pathlib import Path

from gcp.data.annotations.layout import locate
from gcp.data.annotations.listing import ID_LISTS, Listing, read_id_lists
from gcp.data.source import DATASETS, on_disk

LAYOUT = f"nabirds/{{{', '.join(ID_LISTS)}}}"


def listing(root: Path) -> Listing:
    """Both splits of NABirds in `root`."""
    layout, place = locate(root, {LAYOUT: ID_LISTS})
    return read_id_lists(place, layout, folder=lambda number, _: number.zfill(4), leaves=True)


DATASETS.add(
    "nabirds",
    on_disk(listing, classes=555, counts={"train": 23929, "test": 24633}, image_size=448, default="center_crop"),
    summary="NABirds: 555 categories of birds; 23,929 images to train, 24,633 to test",
    paper="Van Horn et al. 2015, Building a Bird Recognition App and Large Scale Dataset With Citizen Scientists, CVPR",
)
