"""Images in folders: `root/{train,val,test}/class/*.jpg`, or `root/class/*.jpg`. A class is the name of its folder, in
sorted order.

train, val, test   used as they are
train, test        validation is held out of train
train, val         the habit of ImageNet: val is what results are quoted on, so it is the test split here, and
                   validation is held out of train; nothing is ever selected on the test split
none of these      the folders are the classes: test and validation are held out of each, copies kept on one side
"""

from collections.abc import Sequence
from pathlib import Path

from gcp.data.annotations.layout import holds_runs, listed, scan, scan_splits, set_root, subfolders, unpack
from gcp.data.annotations.listing import SPLITS, Listing, by_class
from gcp.data.decode import EXTENSIONS
from gcp.data.source import DATASETS, on_disk
from gcp.data.split_names import SYNONYMS
from gcp.errors import DataError, counted, suggest


def listing(root: Path) -> Listing:
    """The folders train, val and test of `root`, a class for each folder in them; or a class for each folder of `root`.

    Raises DataError unless there are folders to train and to test on.
    """
    inside, runs = _apart(root)
    names = [name for name in SPLITS if name in inside]
    if not names and len(_with_images(root, inside)) > 1 and not _is_split(root):
        return _pool(root, runs)
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
    looked = (
        f"{root} must hold CLASS/*.jpg of two classes or more, or train/CLASS/*.jpg, and val/, test/ or both; "
        f"it holds {_held(root, inside)}."
    )
    if "train" not in names:
        if "test" in names or "val" in names:
            looked += " To score a trained model on it: gcp evaluate --checkpoint RUN data.root=ROOT."
        nested = [name for name in others if _is_whole(root / name)]
        near = [root / name for name in nested] + [root.parent] * (root.name in SPLITS)
        hint = f" {set_root(near[0])}." if near else suggest("train", others)
        raise DataError(f"no folder 'train'. {looked}{hint or unpack(root)}")
    if len(names) == 1:
        hint = _rename(others) or suggest("test", others) or suggest("val", others)
        raise DataError(
            f"no folder 'test' or 'val': there is nothing to score the trained model on. {looked}"
            f"{hint or f' {set_root(root / names[0])} to have a part of each class held out.'}"
        )


def _rename(others: list[str]) -> str:
    """What to do about folders whose names are splits elsewhere, such as `validation`."""
    meant = {other: role for role, names in SYNONYMS.items() for other in others if other.lower() in names}
    return "".join(f" Rename '{other}' to '{role}'." for other, role in meant.items())


def _with_images(root: Path, inside: list[str]) -> list[str]:
    """The folders in `root` that hold images themselves."""
    return [name for name in inside if any(file.suffix.lower() in EXTENSIONS for file in (root / name).glob("*"))]


def _held(root: Path, inside: list[str]) -> str:
    """What is in `root`, the images that are in no folder too: a class is the name of a folder."""
    loose = sum(entry.suffix.lower() in EXTENSIONS for entry in root.iterdir())
    return listed(inside, "no folder") + f" and {counted(loose, 'image')} in no class folder" * bool(loose)


def _is_whole(folder: Path) -> bool:
    """Whether a folder could be data.root itself."""
    return (folder / "train").is_dir() or len(_with_images(folder, _apart(folder)[0])) > 1


def _is_split(root: Path) -> bool:
    """Whether a folder is one of the splits of the folder above."""
    return root.name in SPLITS and any((root.parent / name).is_dir() for name in SPLITS if name != root.name)


def _apart(root: Path) -> tuple[list[str], list[str]]:
    """The folders in `root`, and those in it that hold runs, which a training in `root` itself puts there."""
    inside = subfolders(root)
    runs = [name for name in inside if holds_runs(root / name)]
    return [name for name in inside if name not in runs], runs


def _pool(root: Path, runs: Sequence[str]) -> Listing:
    """The classes in `root` itself, besides folders of runs."""
    by_name, faults = scan(root, runs)
    loose = sum(entry.suffix.lower() in EXTENSIONS for entry in root.iterdir())
    unused = [f"{counted(loose, 'image')} in no class folder"] * bool(loose) + [f"runs in {listed(runs)}"] * bool(runs)
    notes = (f"Not used: {', '.join(unused)}.",) if unused else ()
    splits = {"train": by_class(list(by_name.values()))}
    return Listing("one folder per class, split here", tuple(by_name), splits, notes, tuple(faults))


DATASETS.add(
    "folder",
    on_disk(listing, classes=None, counts=None, image_size=224, default="random_resized_crop", as_shown=True),
    summary="your own images: root/class/*.jpg, or root/{train,val,test}/class/*.jpg without val or test",
)
