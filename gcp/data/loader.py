"""Batches of an ImageSet in an order that depends on (seed, epoch) and on nothing else."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gcp.data.imageset import ImageSet
from gcp.data.normalize import Normalizer
from gcp.data.seeds import AUGMENT, ORDER, hashed, permutation
from gcp.data.share import WHOLE, Share
from gcp.errors import GCPError, OptionError

_MOST_WORKERS = 8


class Loader:
    """Iterates over `dataset` in batches: `for images, labels in loader.epoch(3, start=17)`.

    train=True: the order of an epoch is a function of (seed, epoch); the augmentation of a sample is one of
    (seed, epoch, its place in the order). train=False: natural order, every image once, no augmentation.
    Neither depends on `workers` or on any random state, and the random state of this process stays as it is.

    The last training batch is dropped with drop_last, and always where it would hold a single image, on which
    batch norm cannot train (with batch_size=1 nothing is dropped for that).

    `workers`: processes that decode; "auto" is none for images in memory, else one per core up to eight. They
    live from epoch to epoch. One epoch at a time: starting another ends the one before.

    `share`: of one among several processes. Batches, their number and their `size` are those of all together; here
    come the slices, which may be empty, and in evaluation the batches of this process.
    Raises OptionError for arguments out of range, and where an epoch would have no batch.
    """

    def __init__(
        self,
        dataset: ImageSet,
        batch_size: int,
        *,
        train: bool,
        seed: int = 0,
        workers: int | str = "auto",
        drop_last: bool = False,
        pin_memory: bool = False,
        share: Share = WHOLE,
    ):
        self.dataset = dataset
        self.batch_size = batch_size
        self.train = train
        self.seed = seed
        self.share = share
        self.workers = count_workers(workers, dataset.in_memory)
        self.samples = count_samples(len(dataset), batch_size, train, drop_last)
        # The keys do not know the loader: a cycle would keep the workers alive after the loader is gone.
        self._keys = _Keys()
        self._turn: object = None
        self._loader: DataLoader[Any] = DataLoader(
            _Fetch(dataset),
            batch_size=None,  # a key is a whole batch, so that images in memory are transformed together
            sampler=self._keys,
            num_workers=self.workers,
            collate_fn=_unchanged,
            pin_memory=pin_memory,
            persistent_workers=self.workers > 0,
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.samples // self.batch_size)

    @property
    def normalize(self) -> Normalizer:
        """That of the data set."""
        return self.dataset.normalize

    @property
    def advice(self) -> str:
        """What to change where a device waits for these batches."""
        return advise(self.workers, self.dataset.in_memory)

    def size(self, batch: int) -> int:
        """Images of batch number `batch` in all processes together."""
        return min(self.batch_size, self.samples - batch * self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Indices into the data set in the order of epoch `epoch`, int64, one per sample used."""
        count = len(self.dataset)
        return permutation(count, ORDER, self.seed, epoch)[: self.samples] if self.train else np.arange(count)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches (images, labels) of epoch `epoch` from batch `start` on; those before are not read.

        Raises OptionError unless 0 <= start <= len(self), and DataError on an image that cannot be read.
        """
        if not 0 <= start <= len(self):
            raise OptionError(f"an epoch has {len(self)} batches and cannot start at batch {start}.")
        return self._iterate(epoch, start)

    def _iterate(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        turn = self._turn = object()
        order = self.order(epoch)
        seeds = hashed(AUGMENT, self.seed, epoch, np.arange(len(order))) if self.train else None
        self._keys.aim(order, seeds, self._slices(start))
        batches = iter(self._loader)
        for part in self._keys.slices:
            if self._turn is not turn:
                raise RuntimeError("this epoch ended when another epoch of the same loader began")
            batch = next(batches)
            if isinstance(batch, GCPError):
                raise batch
            images, labels = batch
            yield images[: len(part)], labels[: len(part)]

    def _slices(self, start: int) -> list[np.ndarray]:
        """Places in the order of the epoch of each batch that comes here, from batch `start` on."""
        batches = range(start, len(self))
        if not self.train:
            return [self._begin(batch) + np.arange(self.size(batch)) for batch in batches if self.share.scores(batch)]
        return [self._begin(batch) + self.share.places(self.size(batch)) for batch in batches]

    def _begin(self, batch: int) -> int:
        return batch * self.batch_size


class _Keys(Sampler[Any]):
    """What to fetch: (indices, seeds) per batch of the epoch that `aim` chose last."""

    def __init__(self) -> None:
        self.order = np.zeros(0, dtype=np.int64)
        self.seeds: np.ndarray | None = None
        self.slices: list[np.ndarray] = []

    def aim(self, order: np.ndarray, seeds: np.ndarray | None, slices: list[np.ndarray]) -> None:
        self.order, self.seeds, self.slices = order, seeds, slices

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        order, seeds = self.order, self.seeds
        for part in self.slices:
            # For an empty slice an image is read and left out: only an image knows its shape.
            places = part if len(part) else np.zeros(1, dtype=np.int64)
            yield order[places], None if seeds is None else seeds[places]

    def __len__(self) -> int:
        return len(self.slices)


class _Fetch(Dataset[Any]):
    def __init__(self, images: ImageSet):
        self.images = images

    def __getitem__(self, key: tuple[np.ndarray, np.ndarray | None]) -> Any:
        try:
            return self.images.read(*key)
        except GCPError as error:
            return error  # raised in a worker it would arrive wrapped in the worker's traceback


def count_samples(count: int, batch_size: int, train: bool, drop_last: bool) -> int:
    """How many of `count` images an epoch uses; see Loader. Raises OptionError where that makes no batch."""
    if batch_size < 1:
        raise OptionError(f"batch_size must be at least 1; got {batch_size}.")
    rest = count % batch_size
    dropped = train and (drop_last or (rest == 1 and batch_size > 1))
    if count - dropped * rest == 0:
        hint = f"use a batch size of at most {count}" if count else "the split is empty"
        raise OptionError(f"{count} images make no batch of {batch_size}: {hint}.")
    return count - dropped * rest


def count_workers(workers: int | str, in_memory: bool) -> int:
    """The number of worker processes for "auto" or a number. Raises OptionError for anything else."""
    if workers == "auto":
        return 0 if in_memory else min(usable_cores(), _MOST_WORKERS)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise OptionError(f"workers must be 'auto' or a whole number of at least 0; got {workers!r}.")
    return workers


def usable_cores() -> int:
    """Cores that this process may use, its part of them where it is one of several on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def advise(workers: int, in_memory: bool) -> str:
    """What to change where a device waits for batches that so many workers read."""
    cores = usable_cores()
    lighter = "a smaller data.image_size or a lighter data.transform"
    if in_memory:
        return f"they are in memory and are prepared between the steps; {lighter} takes less time."
    if workers < cores:
        return f"set data.workers={cores} to read them with all {cores} cores of this machine."
    return f"all {cores} cores read them already; smaller files, {lighter}, or more cores take less time."


def _unchanged(batch: Any) -> Any:
    return batch
