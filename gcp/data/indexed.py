"""Images that some other library reads by index."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gcp.data.imageset import ImageSet, Splits, frozen_labels
from gcp.data.named import arrange
from gcp.data.normalize import Normalizer
from gcp.data.source import Request
from gcp.data.split import hold_out, reduce_train
from gcp.data.transforms import Transform
from gcp.errors import DataError


class IndexedSet:
    """An ImageSet over `pixels(index)`, (C, h, w) uint8, at `indices` of the source; by default all of `labels`."""

    in_memory = False
    paths = None

    def __init__(
        self,
        pixels: Callable[[int], Tensor],
        labels: Sequence[int] | np.ndarray,
        transform: Transform,
        indices: Sequence[int] | np.ndarray | None = None,
    ):
        self.pixels = pixels
        self.labels = frozen_labels(labels)
        self.transform = transform
        self.indices = np.arange(len(self.labels)) if indices is None else np.asarray(indices, dtype=np.int64)

    @property
    def normalize(self) -> Normalizer:
        """That of the transform."""
        return self.transform.normalize

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.read([index])
        return images[0], int(labels[0])

    def read(self, indices: Sequence[int] | np.ndarray, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """A batch; see ImageSet.read."""
        chosen = np.asarray(indices, dtype=np.int64)
        images = (self.pixels(int(index)) for index in self.indices[chosen])
        return self.transform(images, seeds), torch.from_numpy(self.labels[chosen])

    def subset(self, indices: Sequence[int] | np.ndarray) -> "IndexedSet":
        """The same images restricted to `indices`."""
        chosen = np.asarray(indices, dtype=np.int64)
        return IndexedSet(self.pixels, self.labels[chosen], self.transform, self.indices[chosen])


def indexed_splits(
    where: str,
    found: Mapping[str, IndexedSet],
    classes: tuple[str, ...],
    request: Request,
) -> Splits:
    """Train, val and test out of sets by the names of their splits.

    A split without labels, which holds -1 for each, is not used. Raises DataError for other labels that are no
    class, an empty split, and where there is nothing to train or to test on.
    """
    blind = [name for name, images in found.items() if len(images) and (images.labels == -1).all()]
    used: dict[str, ImageSet] = {name: images for name, images in found.items() if name not in blind}
    for name, images in used.items():
        _check_labels(f"the split '{name}' of {where}", images.labels, len(classes))
    train, val, test, rule = arrange(
        where,
        used,
        lambda pool: hold_out(pool, request.val_fraction, request.split_seed, classes),
        lambda pool: reduce_train(pool, request.per_class, request.split_seed, classes),
    )
    if blind:
        rule += f" Without labels, not used: {', '.join(blind)}."
    return Splits(train, val, test, classes, rule)


def _check_labels(what: str, labels: np.ndarray, classes: int) -> None:
    if not len(labels):
        raise DataError(f"{what} is empty.")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{what} has {len(wrong)} labels that are no class: the first is {labels[wrong[0]]}, of image {wrong[0]}; "
            f"allowed: 0 to {classes - 1}."
        )
