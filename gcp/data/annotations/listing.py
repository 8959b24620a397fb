"""What a data set on disk says of itself: which file has which label, in which split. Nothing is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Files:
    """The files of one split: absolute `paths` as found, and `labels` (N,) int64, indices into the classes."""

    paths: tuple[str, ...]
    labels: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", tuple(self.paths))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64).reshape(-1))
        if len(self.paths) != len(self.labels):
            raise ValueError(f"{len(self.paths)} paths and {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class Listing:
    """A data set as its annotations describe it.

    `layout`: a short phrase for the report. `classes`: their names, by label. `splits`: train and test, and val
    where the set has one of its own. `notes`: sentences for the report.
    """

    layout: str
    classes: tuple[str, ...]
    splits: dict[str, Files]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not {"train", "test"} <= set(self.splits) <= set(SPLITS):
            raise ValueError(f"a listing has the splits train, test and perhaps val; got {sorted(self.splits)}")


def by_class(classes: Sequence[Sequence[str]]) -> Files:
    """Files from the paths of each class in turn."""
    paths = tuple(path for members in classes for path in members)
    return Files(paths, np.repeat(np.arange(len(classes)), [len(members) for members in classes]))
