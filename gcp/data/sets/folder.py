"""Images in folders: `root/{train,val,test}/class/*.jpg`. A class is the name of its folder, in sorted order.

train, val, test   used as they are
train, test        validation is held out of train
train, val         the habit of ImageNet: val is what results are quoted on, so it is the test split here, and
                   validation is held out of train; nothing is ever selected on the test split
"""

from pathlib import Path

from gcp.data.annotations.layout import listed, scan_splits, set_root, subfolders, unpack
from gcp.data.annotations.listing import SPLITS, Listing, by_class
from gcp.data.decode import EXTENSIONS
from gcp.data.source import DATASETS, on_disk
from gcp.errors import DataError, suggest


def listing(root: Path) -> Listing:
    """The folders train, val and test of `root`, a class for each folder in them.

    Raises DataError unless there are folders to train and to test on.
    """
    inside = subfolders(root)
    names = [name for name in SPLITS if name in inside]
    others = [name for name in inside if name not in SPLITS]
    _check_splits(root, names, inside)
    found, faults = scan_splits(root, names)
    classes = tuple(found["train"])
    notes = [f"Not used: {', '.join(others)}."] if others else []
    if "test" not in found:
        found["test"] = found.pop("val")
        notes.insert(0, "The folder 'val' is the test split, since there is no folder 'test'.")
    splits = {name: by_class(list(members.values())) for name, members in found.items()}
    return Listing(f"folders {{{','.join(names)}}}/class", classes, splits, tuple(notes), tuple(faults))


def _check_splits(root: Path, names: list[str], inside: list[str]) -> None:
    others = [name for name in inside if name not in names]
    looked = f"{root} must hold train/CLASS/*.jpg, and val/, test/ or both; it holds {listed(inside, 'no folder')}."
    if "train" not in names:
        nested = [name for name in others if (root / name / "train").is_dir()]
        near = [root / name for name in nested] + [root.parent] * (root.name in SPLITS)
        hint = f" {set_root(near[0])}." if near else suggest("train", others)
        raise DataError(f"no folder 'train'. {looked}{hint or unpack(root) or _unsplit(root, inside)}")
    if len(names) == 1:
        raise DataError(
            f"no folder 'test' or 'val': there is nothing to score the trained model on. {looked}"
            f"{suggest('test', others) or suggest('val', others)}"
        )


def _unsplit(root: Path, inside: list[str]) -> str:
    """What to do where the classes lie in `root` itself, or an empty string."""
    classes = [name for name in inside if any(file.suffix.lower() in EXTENSIONS for file in (root / name).glob("*"))]
    return " Move these classes into 'train', and a part of the images of each into 'test'." if classes else ""


DATASETS.add(
    "folder",
    on_disk(listing, classes=None, counts=None, image_size=224, default="random_resized_crop"),
    summary="your own images: root/{train,val,test}/class/*.jpg; val or test may be missing",
)
