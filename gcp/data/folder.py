"""Images in folders: `root/{train,val,test}/class/*.jpg`. A class is the name of its folder, in sorted order.

train, val, test   used as they are
train, test        validation is held out of train
train, val         the habit of ImageNet: val is what results are quoted on, so it is the test split here, and
                   validation is held out of train; nothing is ever selected on the test split
"""

from pathlib import Path

from gcp.data.files import FileSet
from gcp.data.imageset import ImageSet, Splits
from gcp.data.layout import find_root, same_classes, scan
from gcp.data.source import DATASETS, Source
from gcp.data.split import hold_out, reduce_train
from gcp.data.transforms import Transform, imagenet, select


def create(
    *,
    root: str | Path,
    image_size: int,
    in_chans: int,
    per_class: int | None,
    val_fraction: float,
    split_seed: int,
    transform: str,
) -> Splits:
    """A tree of folders; arguments as in `create_dataset`."""
    folder, names, others = find_root(root)
    found = {name: scan(folder / name) for name in names}
    classes = same_classes(folder, found)
    recipe = select(transform, {"default": lambda: imagenet(image_size, in_chans)})
    sets: dict[str, ImageSet] = {name: _file_set(by_class, recipe, in_chans) for name, by_class in found.items()}

    train = sets["train"]
    if len(sets) == 3:
        val, test = sets["val"], sets["test"]
        tested, held_out = f"the folder 'test' ({len(test)})", f"the folder 'val' ({len(val)})"
    else:
        name = "test" if "test" in sets else "val"
        test, tested = sets[name], f"the folder '{name}' ({len(sets[name])})"
        if name == "val":
            tested += ", since there is no folder 'test' and nothing may be selected on it"
        train, val, held_out = hold_out(train, val_fraction, split_seed, classes)
    train, kept = reduce_train(train, per_class, split_seed, classes)
    rule = f"test: {tested}; validation: {held_out}; training: {kept}."
    if others:
        rule += f" Not used: {', '.join(others)}."
    return Splits(train, val, test, classes, rule)


def _file_set(by_class: dict[str, list[str]], recipe: Transform, in_chans: int) -> FileSet:
    paths = [path for files in by_class.values() for path in files]
    labels = [label for label, files in enumerate(by_class.values()) for _ in files]
    return FileSet(paths, labels, recipe, in_chans)


DATASETS.add(
    "folder",
    Source(create, needs_root=True, image_size=224, min_size=1, channels=(1, 3)),
    summary="your own images: root/{train,val,test}/class/*.jpg; a missing split is held out of train",
)
