"""One split of a data set whose images are read by index: in memory, as files, or from another library.

`ImageSet` is the base of all of them: a kind of storage defines `stored` (the images at some places, before the
transform) and `_restrict` (what a subset keeps), and the rest is written once. A split that can only be read in order
is a `gcp.data.stream.StreamSet`.
"""

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from gcp.data.decode import decode
from gcp.data.normalize import Normalizer
from gcp.data.transforms import Transform
from gcp.errors import DataError

Indices = Sequence[int] | np.ndarray
S = TypeVar("S", bound="ImageSet")


class ImageSet:
    """Labelled images of one split, with their transform.

    Attributes:
        labels: (N,) int64, not writeable.
        transform: from stored images to a batch.
        paths: the N files, or None for images that are no files.
        in_memory: True where reading costs no decoding, so that worker processes do not pay.
    """

    in_memory = False
    paths: "Paths | None" = None

    def __init__(self, labels: Indices, transform: Transform):
        self.labels = frozen_labels(labels)
        self.transform = transform

    def stored(self, places: np.ndarray) -> Any:
        """The images at `places` (B,) int64 as the transform takes them: one tensor, or an iterable of tensors
        (C, h, w). Raises DataError on an image that cannot be read.
        """
        raise NotImplementedError

    def _restrict(self, places: np.ndarray) -> None:
        """Keep of the storage what lies at `places`."""
        raise NotImplementedError

    @property
    def normalize(self) -> Normalizer:
        """Takes a batch to the float32 input of a model, on the device."""
        return self.transform.normalize

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image without augmentation, (C, S, S) as in `read`, and its label."""
        images, labels = self.read([index])
        return images[0], int(labels[0])

    def read(self, indices: Indices, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """A batch: (B, C, S, S) uint8, or floating point in [0, 1], and labels (B,) int64.

        With `seeds` (B,) uint64 each image is augmented by its own seed and nothing else; without, none is.
        Raises DataError on an image that cannot be read.
        """
        places = np.asarray(indices, dtype=np.int64)
        return self.transform(self.stored(places), seeds), torch.from_numpy(self.labels[places])

    def subset(self: S, indices: Indices) -> S:
        """The same images restricted to `indices`, in that order."""
        places = np.asarray(indices, dtype=np.int64)
        part = copy.copy(self)
        part.labels = frozen_labels(self.labels[places])
        part._restrict(places)
        return part

    def fingerprint(self) -> str:
        """A hash of labels and file names (class/file, so a data set may move as a whole); no image is read."""
        return f"{len(self)} images, {self._digest().hexdigest()[:16]}"

    def _digest(self) -> Any:
        digest = sha256(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        for path in self.paths or ():
            digest.update(os.fsencode("/".join(path.rsplit(os.sep, 2)[-2:])) + b"\0")
        return digest


class TensorSet(ImageSet):
    """Images in memory: `images` (N, c, h, w) of any dtype that the transform takes, a whole batch at once."""

    in_memory = True

    def __init__(self, images: Tensor, labels: Indices, transform: Transform):
        super().__init__(labels, transform)
        self.images = images

    def stored(self, places: np.ndarray) -> Tensor:
        return self.images[torch.from_numpy(places)]

    def _restrict(self, places: np.ndarray) -> None:
        self.images = self.stored(places)


class FileSet(ImageSet):
    """Images as files at `paths`, decoded when read with `in_chans` channels (1: grey, 3: RGB); `as_shown`: as a
    viewer shows them (`gcp.data.decode`).
    """

    paths: "Paths"

    def __init__(
        self, paths: Sequence[str], labels: Indices, transform: Transform, in_chans: int, as_shown: bool = False
    ):
        super().__init__(labels, transform)
        self.paths = paths if isinstance(paths, Paths) else Paths(paths)
        self.in_chans, self.as_shown = in_chans, as_shown

    def stored(self, places: np.ndarray) -> Iterator[Tensor]:
        # A generator: only one decoded image is alive at a time, before it is cropped.
        for number, place in enumerate(places):
            try:
                yield decode(self.paths[place], self.in_chans, self.as_shown)
            except DataError as error:
                raise self._unreadable(error, places[number + 1 :]) from error.__cause__

    def _unreadable(self, first: DataError, places: np.ndarray) -> DataError:
        """The fault of an image, with those of the others of its batch."""
        faults = [str(first)]
        for place in places:
            try:
                decode(self.paths[place], self.in_chans, self.as_shown)
            except DataError as error:
                faults.append(str(error))
        more = f" {len(faults) - 1} more of this batch:" if len(faults) > 1 else ""
        lines = "".join(f"\n  {fault}" for fault in faults[1:])
        hint = "All that cannot be read are listed by: gcp check NAME ROOT --verify."
        return DataError(f"{faults[0]} {hint}{more}{lines}")

    def _restrict(self, places: np.ndarray) -> None:
        self.paths = self.paths.take(places)


class IndexedSet(ImageSet):
    """Images that another library reads: `pixels(index)` is (C, h, w) uint8, at `indices` of that library's set."""

    def __init__(self, pixels: Callable[[int], Tensor], labels: Indices, transform: Transform):
        super().__init__(labels, transform)
        self.pixels = pixels
        self.indices = np.arange(len(self.labels))

    def stored(self, places: np.ndarray) -> Iterator[Tensor]:
        return (self.pixels(int(index)) for index in self.indices[places])

    def _restrict(self, places: np.ndarray) -> None:
        self.indices = self.indices[places]


class Paths(Sequence[str]):
    """A million paths as one text with their offsets, made into strings when read.

    Worker processes share the memory of the process that they were forked from until one of them writes to it, and
    reading a Python string writes to its reference count: a list of a million paths would be copied into every
    worker, page by page. One text has one count.
    """

    def __init__(self, paths: Iterable[str]):
        every = tuple(paths)
        bounds = np.cumsum([0, *map(len, every)], dtype=np.int64)
        self._starts, self._ends = bounds[:-1], bounds[1:]
        self._text = "".join(every)

    def take(self, indices: Indices) -> "Paths":
        """The paths at `indices`, in that order, on the same text."""
        taken = Paths(())
        taken._text, taken._starts, taken._ends = self._text, self._starts[indices], self._ends[indices]
        return taken

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Paths": ...
    def __getitem__(self, index: int | slice) -> "str | Paths":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return self._text[self._starts[index] : self._ends[index]]

    def __iter__(self) -> Iterator[str]:
        text = self._text
        return (text[start:end] for start, end in zip(self._starts.tolist(), self._ends.tolist(), strict=True))


def frozen_labels(labels: Indices) -> np.ndarray:
    """A read-only int64 copy of the labels."""
    array = np.array(labels, dtype=np.int64)
    array.setflags(write=False)
    return array
