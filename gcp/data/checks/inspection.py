"""What is to be known of a data set before its images are read one by one, and its text: the state of `check_dataset`.

There are three kinds: files, which a listing describes completely; images that are read by index, in memory or by some
other library; and streams, about which nothing but the counts is known before they are read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from gcp.data import DATASETS, ImageSet, StreamSet, create_dataset, stratified_split
from gcp.data.annotations.layout import existing_folder
from gcp.data.annotations.listing import Files, Listing
from gcp.data.checks.faults import find_faults
from gcp.data.decode import decode
from gcp.data.source import Source
from gcp.errors import DataError, counted

if TYPE_CHECKING:
    from PIL.Image import Image

FRACTION = 0.1  # the default of data.val_fraction
WIDTH, MARGIN, NAME = 120, 14, 34  # of the text, in letters


@dataclass
class Inspection:
    """A data set and its faults. `sizes`, images by split, is empty where it could not be listed at all.

    `labels`, by split: empty for a stream. `files`: the splits of files on disk; `sets`: those of any other kind.
    """

    name: str
    summary: str
    root: str | None
    layout: str = ""
    classes: tuple[str, ...] = ()
    published_classes: int | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    files: dict[str, Files] = field(default_factory=dict)
    sets: dict[str, ImageSet | StreamSet] = field(default_factory=dict)
    validation: str = ""
    notes: tuple[str, ...] = ()
    faults: list[str] = field(default_factory=list)

    @property
    def images(self) -> int:
        """Their number, in all splits."""
        return sum(self.sizes.values())

    @property
    def in_memory(self) -> bool:
        """Whether reading costs nothing."""
        return bool(self.sets) and all(images.in_memory for images in self.sets.values())

    @property
    def paths(self) -> dict[str, tuple[str, ...]]:
        """The files of each split; empty for the other kinds."""
        return {name: files.paths for name, files in self.files.items()}

    def extremes(self, split: str) -> list[tuple[int, str]]:
        """Number of images and name of the smallest and of the largest class; empty for a stream."""
        if split not in self.labels or not self.classes:
            return []
        labels, classes = self.labels[split], len(self.classes)
        count = np.bincount(labels[(labels >= 0) & (labels < classes)], minlength=classes)
        return [(int(count[label]), self.classes[label]) for label in (count.argmin(), count.argmax())]

    def examples(self) -> Iterator["Image | None"]:
        """The first training image of each class, None where there is none that can be read."""
        from PIL import Image

        for label in range(len(self.classes)):
            chosen = np.flatnonzero(self.labels["train"] == label)
            try:
                pixels = self._pixels(int(chosen[0])) if len(chosen) else None
            except DataError:
                pixels = None
            yield None if pixels is None else Image.fromarray(pixels)

    def _pixels(self, index: int) -> np.ndarray:
        """A training image, (h, w, 3) uint8."""
        if self.files:
            image = decode(self.files["train"].paths[index], 3)
        else:
            train = self.sets["train"]
            assert not isinstance(train, StreamSet)
            image = train[index][0]
        if image.is_floating_point():
            image = (255 * image).round().byte()
        return image.expand(3, -1, -1).permute(1, 2, 0).numpy()

    def as_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return {
            "name": self.name,
            "root": self.root,
            "layout": self.layout,
            "classes": {"count": len(self.classes), "published": self.published_classes, "names": list(self.classes)},
            "splits": {
                name: {
                    "images": size,
                    "published": self.published.get(name),
                    **dict(zip(("smallest", "largest"), self.extremes(name), strict=False)),
                }
                for name, size in self.sizes.items()
            },
            "validation": self.validation,
            "notes": list(self.notes),
        }


def inspect(name: str, root: str | None, partial: bool) -> Inspection:
    """List the data set and find its faults by the fast check. Raises UnknownNameError."""
    entry = DATASETS[name]
    source: Source = entry.obj
    found = Inspection(name, entry.summary, root, published_classes=source.classes)
    try:
        if source.listing is None:
            _from_splits(found, source, partial)
        else:
            place = existing_folder(str(root))
            found.root = str(place)
            _from_listing(found, source.listing(place), source, partial)
    except DataError as error:
        found.faults.append(str(error))
    return found


def _from_listing(found: Inspection, listing: Listing, source: Source, partial: bool) -> None:
    found.layout, found.classes, found.notes = listing.layout, listing.classes, listing.notes
    found.files = listing.splits
    found.sizes = {name: len(files) for name, files in listing.splits.items()}
    found.labels = {name: files.labels for name, files in listing.splits.items()}
    if "test" not in listing.splits:
        found.validation = "held out of train, as the test split is, when a run begins (data.test_fraction)"
    elif "val" in listing.splits:
        found.validation = f"{len(listing.splits['val']):,} images of its own"
    else:
        held = len(stratified_split(found.labels["train"], FRACTION, 0)[1])
        found.validation = f"held out of train class by class, {held:,} images at data.val_fraction={FRACTION}"
        if not held:
            found.faults.append("no validation image can be held out of train: each class has a single image there")
    found.published = dict(source.counts or {})
    found.faults += find_faults(listing, source, partial)


def _from_splits(found: Inspection, source: Source, partial: bool) -> None:
    splits = create_dataset(found.name, found.root, image_size=source.image_size, partial=partial)
    found.sets = {"train": splits.train, "val": splits.val, "test": splits.test}
    stream = any(isinstance(images, StreamSet) for images in found.sets.values())
    found.layout = "a stream" if stream else "in memory" if found.in_memory else "read by index"
    found.classes, found.validation = splits.classes, splits.rule
    found.sizes = {name: len(images) for name, images in found.sets.items()}
    found.labels = {name: images.labels for name, images in found.sets.items() if not isinstance(images, StreamSet)}
    # The published training images are those of train and val; only their sum is given.
    found.published = {name: count for name, count in (source.counts or {}).items() if name == "test"}


def head(found: Inspection) -> str:
    """Layout, classes, the table of the splits, validation and notes."""
    rows = [("root", found.root), ("layout", found.layout)]
    if found.sizes:
        published = f" (published: {found.published_classes:,})" if found.published_classes else ""
        rows.append(("classes", f"{len(found.classes):,}{published}"))
    lines = [f"{found.name}: {found.summary}", *(_row(key, value) for key, value in rows if value)]
    if found.sizes:
        lines += ["", *_table(found), "", _row("validation", found.validation)]
    return "\n".join([*lines, *(_row("note", note) for note in found.notes)])


def tail(found: Inspection, verified: bool) -> str:
    """The verdict. `verified`: every image was decoded."""
    if not found.faults:
        few = "every file is there, and a few of each split were decoded; --verify decodes all"
        return f"\nsound: {'every image was decoded' if verified else few if found.files else 'no fault found'}"
    return "\n".join([f"\n{counted(len(found.faults), 'fault')}:", *(f"  {fault}" for fault in found.faults)])


def _table(found: Inspection) -> list[str]:
    lines = [f"  {'split':<8}{'images':>11}{'published':>11}   {'smallest class':<{NAME + 9}}largest class"]
    for name, size in found.sizes.items():
        published = f"{found.published[name]:,}" if name in found.published else "-"
        classes = "  ".join(f"{count:>7,} {_short(text):<{NAME}}" for count, text in found.extremes(name))
        lines.append(f"  {name:<8}{size:>11,}{published:>11} {classes}".rstrip())
    return lines


def _row(key: str, value: object) -> str:
    return fill(f"  {key:<{MARGIN - 2}}{value}", WIDTH, subsequent_indent=" " * MARGIN, break_on_hyphens=False)


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"
