"""What the loader, the trainer and the tools know of a set of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePath
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor


@runtime_checkable
class ImageSet(Protocol):
    """Labelled images of one split, with their transform.

    `labels`: (N,) int64, not writeable. `paths`: the N files, or None for images that are no files.
    `in_memory`: True where reading costs no decoding, so that worker processes do not pay.
    """

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def paths(self) -> tuple[str, ...] | None: ...

    @property
    def in_memory(self) -> bool: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image without augmentation, (C, S, S) float32, and its label."""
        ...

    def read(self, indices: Sequence[int] | np.ndarray, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """A batch: (B, C, S, S) float32 and (B,) int64.

        With `seeds` (B,) uint64 each image is augmented by its own seed and nothing else; without, none is.
        Raises DataError on an image that cannot be read.
        """
        ...

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ImageSet":
        """The same images restricted to `indices`, in that order."""
        ...


@dataclass(frozen=True)
class Splits:
    """The three splits of a data set. `rule` is a plain sentence: which images are validation and test."""

    train: ImageSet
    val: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    rule: str

    def fingerprint(self) -> dict[str, str]:
        """A hash of each split's labels and file names (class/file, so a data set may move as a whole)."""
        return {name: _fingerprint(getattr(self, name)) for name in ("train", "val", "test")}


def _fingerprint(images: ImageSet) -> str:
    digest = sha256(np.ascontiguousarray(images.labels, dtype="<i8").tobytes())
    for path in images.paths or ():
        digest.update("/".join(PurePath(path).parts[-2:]).encode() + b"\0")
    return f"{len(images)} images, {digest.hexdigest()[:16]}"


def frozen_labels(labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """A read-only int64 copy of the labels."""
    array = np.array(labels, dtype=np.int64)
    array.setflags(write=False)
    return array
