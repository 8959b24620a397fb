"""Batches of an ImageSet in an order that depends on (seed, epoch) and on nothing else."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gcp.data.imageset import ImageSet
from gcp.data.seeds import AUGMENT, ORDER, hashed, permutation
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
    ):
        if batch_size < 1:
            raise OptionError(f"batch_size must be at least 1; got {batch_size}.")
        self.dataset = dataset
        self.batch_size = batch_size
        self.train = train
        self.seed = seed
        self.workers = count_workers(workers, dataset.in_memory)
        self.samples = self._count_samples(train and drop_last)
        # The keys do not know the loader: a cycle would keep the workers alive after the loader is gone.
        self._keys = _Keys(batch_size)
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
        self._keys.aim(order, seeds, start)
        batches = iter(self._loader)
        for _ in range(start, len(self)):
            if self._turn is not turn:
                raise RuntimeError("this epoch ended when another epoch of the same loader began")
            batch = next(batches)
            if isinstance(batch, GCPError):
                raise batch
            images, labels = batch
            yield images, labels

    def _count_samples(self, drop_last: bool) -> int:
        count, rest = len(self.dataset), len(self.dataset) % self.batch_size
        if drop_last or (self.train and rest == 1 and self.batch_size > 1):
            count -= rest
        if count == 0:
            found = len(self.dataset)
            hint = f"use a batch size of at most {found}" if found else "the split is empty"
            raise OptionError(f"{found} images make no batch of {self.batch_size}: {hint}.")
        return count


class _Keys(Sampler[Any]):
    """What to fetch: (indices, seeds) per batch of the epoch that `aim` chose last."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.order = np.zeros(0, dtype=np.int64)
        self.seeds: np.ndarray | None = None
        self.start = 0

    def aim(self, order: np.ndarray, seeds: np.ndarray | None, start: int) -> None:
        self.order, self.seeds, self.start = order, seeds, start

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        order, seeds = self.order, self.seeds
        for begin in range(self.start * self.size, len(order), self.size):
            part = slice(begin, begin + self.size)
            yield order[part], None if seeds is None else seeds[part]

    def __len__(self) -> int:
        return -(-len(self.order) // self.size) - self.start


class _Fetch(Dataset[Any]):
    def __init__(self, images: ImageSet):
        self.images = images

    def __getitem__(self, key: tuple[np.ndarray, np.ndarray | None]) -> Any:
        try:
            return self.images.read(*key)
        except GCPError as error:
            return error  # raised in a worker it would arrive wrapped in the worker's traceback


def count_workers(workers: int | str, in_memory: bool) -> int:
    """The number of worker processes for "auto" or a number. Raises OptionError for anything else."""
    if workers == "auto":
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return 0 if in_memory else min(usable, _MOST_WORKERS)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise OptionError(f"workers must be 'auto' or a whole number of at least 0; got {workers!r}.")
    return workers


def _unchanged(batch: Any) -> Any:
    return batch
