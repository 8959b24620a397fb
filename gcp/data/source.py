"""The registry of data sets. A new one is a file in `gcp.data.sets` that adds its Source to DATASETS."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from gcp.command import install
from gcp.data.annotations.layout import existing_folder
from gcp.data.annotations.listing import Listing
from gcp.data.checks.faults import check_listing
from gcp.data.images import FileSet, ImageSet
from gcp.data.splits import Splits, hold_out, reduce_train
from gcp.data.transforms import OWN, STATISTICS, TRANSFORMS, Preprocessing, Transform, create_transform, heeded
from gcp.errors import DataError, OptionError, counted, nearest
from gcp.options import build, option
from gcp.registry import Registry

COPIES = ("near", "exact", "ignore")
EXTRA = ("datasets", "webdataset")  # packages of the extra [data]


class Refusal(NamedTuple):
    """An argument that a data set does not take. `meant`: the nearest allowed value, or None."""

    key: str
    got: object
    allowed: str
    meant: str | None = None


@dataclass(frozen=True)
class Request:
    """What is asked of a data set: the arguments of `gcp.data.create_dataset`, which explains them."""

    name: str = ""
    root: str | Path | None = None
    transform: str = "default"
    image_size: int = option(32, "side of the square images in pixels", minimum=1)
    in_chans: int = option(3, "channels of an image", minimum=1)
    per_class: int | None = option(None, "training images of each class", minimum=1, optional=True)
    val_fraction: float = option(0.1, "share of the training images held out", minimum=0, below=1)
    test_fraction: float = option(0.2, "share of a pool without splits that is held out for test", minimum=0, below=1)
    copies: str = option("near", "which copies stay on one side of that split", choices=COPIES)
    split_seed: int = option(0, "chooses the images held out, and those of each class", minimum=0)
    partial: bool = option(False, "accept other counts than the published ones")
    exif: bool | None = option(None, "image files as a viewer shows them", choices=(None, True, False))
    told: Preprocessing = OWN

    @property
    def folder(self) -> Path:
        """`root`, of a set that is not asked for without one."""
        assert self.root is not None
        return Path(self.root).expanduser()

    @property
    def splitting(self) -> dict[str, Any]:
        """The options of `gcp.data.split_names.splits_by_name`."""
        return {key: getattr(self, key) for key in ("val_fraction", "split_seed", "per_class")}

    def create_transform(self, default: str = "random_resized_crop") -> Transform:
        """The transform; `default`: the name of the set's own."""
        return create_transform(self.transform, default, self.image_size, self.in_chans, self.told)


@dataclass(frozen=True)
class Source:
    """One data set: how to create its splits, and what it allows.

    Attributes:
        create: the splits that a request asks for.
        needs_root: it lies on disk, else it takes no root; None: it takes one or none.
        image_size: the usual side of its images.
        min_size: the least.
        channels: the allowed in_chans, None for any.
        transforms: names beside "default" and "none".
        listing: reads the annotations of a set of files on disk.
        classes: the published number of classes, None where there is none.
        counts: the published number of images by split of the listing, None where there is none.
        default: the name of its transform, of TRANSFORMS; of images in memory the one for files like them.
        levels: grey levels of the images as they are published, 256 for bytes.
        as_shown: image files are taken as a viewer shows them, unless the request decides.
    """

    create: Callable[[Request], Splits]
    needs_root: bool | None
    image_size: int = 224
    min_size: int = 1
    channels: tuple[int, ...] | None = (1, 3)
    transforms: Iterable[str] = TRANSFORMS
    listing: Callable[[Path], Listing] | None = None
    classes: int | None = None
    counts: Mapping[str, int] | None = None
    default: str = "random_resized_crop"
    levels: int = 256
    as_shown: bool = False

    def heeded(self, transform: str) -> tuple[str, ...]:
        """The attributes of a Preprocessing that change what images of this set become by a transform."""
        own = transform in ("default", "none")
        return STATISTICS if own and not self.transforms else heeded(self.default if own else transform)

    def refusals(
        self, root: object, image_size: int | None, in_chans: int, transform: str, exif: bool | None = None
    ) -> Iterator[Refusal]:
        """What the data set does not take; image_size None for its usual one. No disk is touched."""
        if self.needs_root and root is None:
            yield Refusal("root", None, "the folder that it lies in, data.root=FOLDER")
        if self.needs_root is False and root is not None:
            yield Refusal("root", root, "null, it is part of an installed package")
        if image_size is not None and image_size < self.min_size:
            yield Refusal("image_size", image_size, f"a whole number >= {self.min_size}")
        if self.channels is not None and in_chans not in self.channels:
            yield Refusal("in_chans", in_chans, " or ".join(map(str, self.channels)))
        if exif is not None and self.listing is None:
            yield Refusal("exif", exif, "null, its images are no files")
        transforms = ["default", *self.transforms, "none"]
        if transform not in transforms and not (self.transforms is TRANSFORMS and transform in TRANSFORMS):
            allowed = ", ".join(transforms)
            if ":" in transform:  # a strength
                allowed += "; randaugment, trivial and auto also with a strength from 0 to 1, as randaugment:0.5"
            yield Refusal("transform", transform, allowed, nearest(transform, transforms))


class DatasetRegistry(Registry[Source]):
    """Data sets by name. What is added is a Source, or a function as `gcp.data.own` describes it."""

    def add(self, name: str, obj: Any, *, summary: str, paper: str = "") -> Any:
        """Register a Source, or a function that makes one. Returns what it was given."""
        from gcp.data.own import source_of

        super().add(name, obj if isinstance(obj, Source) else source_of(obj), summary=summary, paper=paper)
        return obj


DATASETS = DatasetRegistry("data set")


def check_dataset(
    name: str, root: str | Path | None = None, transform: str = "default", told: Preprocessing = OWN, **options: Any
) -> Request:
    """The request that `create_dataset` would fulfil, checked before the disk is touched; arguments as there.

    Raises UnknownNameError for the data set, and OptionError for the rest.
    """
    source = DATASETS[name].obj
    if not isinstance(root, str | os.PathLike | None):
        raise OptionError(f"data.root must be the path of a folder; got {root!r}.")
    asked = build(Request, name, options)
    refused = [
        _message(name, *each) for each in source.refusals(root, asked.image_size, asked.in_chans, transform, asked.exif)
    ]
    if refused:
        raise OptionError("\n".join(refused))
    return Request(**{**vars(asked), "name": name, "root": root, "transform": transform, "told": told})


def on_disk(
    listing: Callable[[Path], Listing], *, classes: int | None, counts: Mapping[str, int] | None, **facts: Any
) -> Source:
    """The Source of a data set that lies on disk: the one way in which files become images.

    listing: reads the annotations in a folder that exists, and raises DataError where they are not there.
    classes, counts: the published number of classes, and of images in each split of the listing; None for any.
    facts: further attributes of the Source, such as image_size and the name of its `default` transform.
    """

    def create(request: Request) -> Splits:
        place = existing_folder(request.folder)
        found = listing(place)
        check_listing(str(place), found, source, request.partial)
        if "test" not in found.splits:
            from gcp.data.grouped import split_pool

            found = split_pool(found, request)
        transform = request.create_transform(source.default)
        as_shown = source.as_shown if request.exif is None else request.exif
        sets: dict[str, ImageSet] = {
            split: FileSet(files.paths, files.labels, transform, request.in_chans, as_shown)
            for split, files in found.splits.items()
        }
        train, test = sets["train"], sets["test"]
        if "val" in sets:
            val, held_out = sets["val"], found.held_out or f"{counted(len(sets['val']), 'image')} of its own"
        else:
            train, val, held_out = hold_out(train, request.val_fraction, request.split_seed, found.classes)
        train, kept = reduce_train(train, request.per_class, request.split_seed, found.classes)
        rule = f"{found.layout}. Test: {counted(len(test), 'image')}; validation: {held_out}; training: {kept}."
        return Splits(train, val, test, found.classes, " ".join([rule, *found.notes]))

    source = Source(create, needs_root=True, listing=listing, classes=classes, counts=counts, **facts)
    return source


def require(package: str, name: str) -> None:
    """Raise DataError, with the command that installs it, unless `package` is there for the data set `name`."""
    if find_spec(package) is None:
        name_there = package.replace("_", "-")
        how = install("data") if package in EXTRA else f"pip install {name_there}"
        raise DataError(f"data set {name!r} is read by the package {name_there}, which is not installed: {how}")


def _message(name: str, key: str, got: object, allowed: str, meant: str | None) -> str:
    shown = got if got is None or isinstance(got, int) else repr(str(got))
    hint = f" Did you mean {meant!r}?" if meant else ""
    return f"data.{key} of {name}: got {shown}; allowed: {allowed}.{hint}"
