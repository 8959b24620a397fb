"""Data sets, their splits, and batches of them. An image goes this way:

    sets            one data set per file, each adds itself to the registry of `source`
    annotations     what a data set on disk says: which file has which label, in which split
    checks          what can be wrong with it
    images, stream  one split: files, tensors or images that another library reads, by index; or shards, in order
    splits          the three splits, validation images held out of train, a few images of each class
    transforms      from stored images to batches of bytes, by name
    loader          batches in a seeded order, of any part of the processes (`rank_slice`); `stream_loader` of streams
    normalize, mix  what is left for the device

A new data set is one new file in `sets`, a new transform one in `transforms`. One of yours, outside of the package, is
`from_torch` in Python, and in a run a function by its name (`own`).
"""

from pathlib import Path

import gcp.data.sets  # noqa: F401  each file adds itself to DATASETS
from gcp.data.images import ImageSet
from gcp.data.loader import BatchLoader, Loader
from gcp.data.mix import mix
from gcp.data.own import import_dataset
from gcp.data.source import DATASETS, Source, check_dataset
from gcp.data.splits import Splits, few_shot, stratified_split
from gcp.data.stream import StreamSet
from gcp.data.stream_loader import StreamLoader, create_loader
from gcp.data.torch_dataset import from_torch
from gcp.data.transforms import OWN, Preprocessing
from gcp.registry import Entry

__all__ = [
    "BatchLoader",
    "DATASETS",
    "ImageSet",
    "Loader",
    "Preprocessing",
    "Source",
    "Splits",
    "StreamLoader",
    "StreamSet",
    "check_dataset",
    "create_dataset",
    "create_loader",
    "few_shot",
    "from_torch",
    "import_dataset",
    "list_datasets",
    "mix",
    "stratified_split",
]


def list_datasets(pattern: str = "*") -> list[Entry[Source]]:
    """Names of data sets that match a shell pattern; each has `.summary` and `.obj`, its Source.

    Examples:
        >>> import gcp
        >>> "digits" in gcp.data.list_datasets()
        True
    """
    return DATASETS.list(pattern)


def create_dataset(
    name: str,
    root: str | Path | None = None,
    image_size: int = 32,
    in_chans: int = 3,
    per_class: int | None = None,
    val_fraction: float = 0.1,
    split_seed: int = 0,
    transform: str = "default",
    partial: bool = False,
    exif: bool | None = None,
    test_fraction: float = 0.2,
    copies: str = "near",
    told: Preprocessing = OWN,
) -> Splits:
    """The three splits of a data set.

    root: where it lies, for a set on disk. image_size: side of the square images, in pixels. in_chans: channels.
    per_class: training images of each class, None for all; validation and test stay whole. val_fraction: share of
    the training images held out for validation where the set has no validation split of its own; 0 for none, which
    leaves `val` empty. split_seed: chooses both. transform: "default", "none" for no augmentation, or a name of
    `gcp.data.transforms`. partial: accept other counts of images and classes than the published ones. exif: take
    image files as a viewer shows them, turned as their EXIF orientation says and transparent parts on white; None:
    those of `folder`, and of no published set. test_fraction: share of each class held out as the test split of a set
    that has none, the same for every split_seed. copies: which of its images stay on one side together: "near" (copies
    and near copies), "exact" (byte for byte) or "ignore". told: mean, deviation,
    interpolation and crop, where they are not those of the transform.

    Raises UnknownNameError (data set, transform), OptionError (an argument out of range), DataError (a set
    that is missing or incomplete).

    Examples:
        >>> import gcp
        >>> splits = gcp.data.create_dataset("digits", per_class=20, in_chans=1)
        >>> len(splits.train), len(splits.test)
        (200, 360)
    """
    request = check_dataset(
        name,
        root=root,
        image_size=image_size,
        in_chans=in_chans,
        per_class=per_class,
        val_fraction=val_fraction,
        split_seed=split_seed,
        transform=transform,
        partial=partial,
        exif=exif,
        test_fraction=test_fraction,
        copies=copies,
        told=told,
    )
    return DATASETS[name].obj.create(request)
