"""What the loader, the trainer and the tools know of a set of images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from gcp.data.checks.overlap import overlaps
from gcp.data.normalize import Normalizer
from gcp.data.stream import StreamSet
from gcp.errors import DataError


@runtime_checkable
class ImageSet(Protocol):
    """Labelled images of one split, with their transform.

    `labels`: (N,) int64, not writeable. `paths`: the N files, or None for images that are no files.
    `in_memory`: True where reading costs no decoding, so that worker processes do not pay. `normalize`: takes
    a batch to the float32 input of a model, on the device.
    """

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def paths(self) -> Sequence[str] | None: ...

    @property
    def in_memory(self) -> bool: ...

    @property
    def normalize(self) -> Normalizer: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image without augmentation, (C, S, S) as in `read`, and its label."""
        ...

    def read(self, indices: Sequence[int] | np.ndarray, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """A batch: (B, C, S, S) uint8, or floating point in [0, 1], and (B,) int64.

        With `seeds` (B,) uint64 each image is augmented by its own seed and nothing else; without, none is.
        Raises DataError on an image that cannot be read.
        """
        ...

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ImageSet":
        """The same images restricted to `indices`, in that order."""
        ...


@dataclass(frozen=True)
class Splits:
    """The three splits of a data set. `rule` is a plain sentence: which images are validation and test.

    Raises DataError where a file is in two of them.
    """

    train: ImageSet | StreamSet
    val: ImageSet | StreamSet
    test: ImageSet | StreamSet
    classes: tuple[str, ...]
    rule: str

    def __post_init__(self) -> None:
        sets = {name: getattr(self, name).paths for name in ("train", "val", "test")}
        for fault in overlaps({name: paths for name, paths in sets.items() if paths is not None}):
            raise DataError(f"{fault}. An image that is trained on must not be scored.")

    def images(self, name: str) -> ImageSet:
        """The split `name`, for who has to choose among its images. Raises DataError where it is a stream."""
        images = getattr(self, name)
        if isinstance(images, StreamSet):
            raise DataError(f"the split {name!r} is a stream, which can only be read in order. {self.rule}")
        return images

    def fingerprint(self) -> dict[str, str]:
        """A hash of each split's labels and file names (class/file, so a data set may move as a whole)."""
        return {name: _fingerprint(getattr(self, name)) for name in ("train", "val", "test")}


def _fingerprint(images: ImageSet | StreamSet) -> str:
    if isinstance(images, StreamSet):
        return images.fingerprint()
    digest = sha256(np.ascontiguousarray(images.labels, dtype="<i8").tobytes())
    for path in images.paths or ():
        digest.update(os.fsencode("/".join(path.rsplit(os.sep, 2)[-2:])) + b"\0")
    return f"{len(images)} images, {digest.hexdigest()[:16]}"


def frozen_labels(labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """A read-only int64 copy of the labels."""
    array = np.array(labels, dtype=np.int64)
    array.setflags(write=False)
    return array
