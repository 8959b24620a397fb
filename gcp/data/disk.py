"""From a listing to the three splits: the one way in which a data set on disk becomes images.

A data set is then one function, `listing(root) -> Listing`, and one line, `DATASETS.add(name, on_disk(...))`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from gcp.data.annotations.layout import existing_folder
from gcp.data.annotations.listing import Listing
from gcp.data.checks.faults import check_listing
from gcp.data.files import FileSet
from gcp.data.imageset import ImageSet, Splits
from gcp.data.source import Request, Source
from gcp.data.split import hold_out, reduce_train
from gcp.data.transforms import TRANSFORMS
from gcp.errors import counted


def on_disk(
    listing: Callable[[Path], Listing],
    *,
    classes: int | None,
    counts: Mapping[str, int] | None,
    image_size: int,
    transform: str,
    min_size: int = 1,
    channels: tuple[int, ...] = (1, 3),
) -> Source:
    """The Source of a data set that lies on disk.

    listing: reads the annotations in a folder that exists, and raises DataError where they are not there.
    classes, counts: the published number of classes, and of images in each split of the listing; None for any.
    image_size: the usual side in pixels. transform: the name of its own transform, of TRANSFORMS.
    """
    default = transform

    def create(request: Request) -> Splits:
        place = existing_folder(request.folder)
        found = listing(place)
        check_listing(str(place), found, source, request.partial)
        recipe = request.recipe(default)
        sets: dict[str, ImageSet] = {
            name: FileSet(files.paths, files.labels, recipe, request.in_chans) for name, files in found.splits.items()
        }
        train, test = sets["train"], sets["test"]
        if "val" in sets:
            val, held_out = sets["val"], f"{counted(len(sets['val']), 'image')} of its own"
        else:
            train, val, held_out = hold_out(train, request.val_fraction, request.split_seed, found.classes)
        train, kept = reduce_train(train, request.per_class, request.split_seed, found.classes)
        rule = f"{found.layout}. Test: {counted(len(test), 'image')}; validation: {held_out}; training: {kept}."
        return Splits(train, val, test, found.classes, " ".join([rule, *found.notes]))

    source = Source(
        create,
        needs_root=True,
        image_size=image_size,
        min_size=min_size,
        channels=channels,
        transforms=TRANSFORMS,
        listing=listing,
        classes=classes,
        counts=None if counts is None else dict(counts),
        default=default,
    )
    return source
