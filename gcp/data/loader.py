"""Batches of a split in an order that depends on (seed, epoch) and on nothing else."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gcp.data.images import ImageSet
from gcp.data.normalize import Normalizer
from gcp.data.rank_slice import WHOLE, RankSlice
from gcp.data.seeds import AUGMENT, DRAW, ORDER, hashed, permutation, uniform
from gcp.data.stream import StreamSet
from gcp.errors import DataError, GCPError, OptionError
from gcp.options import check_choice

_MOST_WORKERS = 8
SAMPLING = ("uniform", "balanced", "sqrt")

Batch = tuple[Tensor, Tensor]
Images = TypeVar("Images", bound=ImageSet | StreamSet)


class BatchLoader(Generic[Images]):
    """Iterates over `dataset` in batches: `for images, labels in loader.epoch(3, start=17)`.

    train=True: the order of an epoch is a function of (seed, epoch); the augmentation of a sample is one of
    (seed, epoch, its place in the order). train=False: natural order, every image once, no augmentation.
    Neither depends on `workers` or on any random state, and the random state of this process stays as it is.

    The last training batch is dropped with drop_last, and always where it would hold a single image, on which
    batch norm cannot train (with batch_size=1 nothing is dropped for that).

    `workers`: processes that decode; "auto" is none for images in memory, else one per core up to eight. They
    live from epoch to epoch. One epoch at a time: starting another ends the one before.

    `sampling`, of training: "uniform", every image once; "balanced" and "sqrt" draw as many images with replacement,
    each class equally often, or in proportion to the root of its number of images.

    `rank_slice`: of one among several processes. Batches, their number and their `size` are those of all together;
    here come the slices, which may be empty, and in evaluation the batches of this process.
    Raises OptionError for arguments out of range, and where an epoch would have no batch.
    """

    def __init__(
        self,
        dataset: Images,
        batch_size: int,
        *,
        train: bool,
        seed: int = 0,
        workers: int | str = "auto",
        drop_last: bool = False,
        pin_memory: bool = False,
        rank_slice: RankSlice = WHOLE,
        sampling: str = "uniform",
    ):
        self.sampling = sampling
        self.dataset: Images = dataset
        self.batch_size = batch_size
        self.train = train
        self.seed = seed
        self.rank_slice = rank_slice
        self.samples = count_samples(len(dataset), batch_size, train, drop_last)
        self.workers = count_workers(workers, dataset.in_memory)
        self._turn: object = None
        self._open(pin_memory)

    def _open(self, pin_memory: bool) -> None:
        """Prepare the reading processes."""
        raise NotImplementedError

    def _iterate(self, epoch: int, start: int) -> Iterator[Batch]:
        raise NotImplementedError

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
        cores = usable_cores()
        lighter = "a smaller data.image_size or a lighter data.transform"
        if self.dataset.in_memory:
            return f"they are in memory and are prepared between the steps; {lighter} takes less time."
        if self.workers < cores:
            return f"set data.workers={cores} to read them with all {cores} cores of this machine."
        return f"all {cores} cores read them already; smaller files, {lighter}, or more cores take less time."

    def size(self, batch: int) -> int:
        """Images of batch number `batch` in all processes together."""
        return min(self.batch_size, self.samples - batch * self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches (images, labels) of epoch `epoch` from batch `start` on.

        Those before are not decoded. Raises OptionError unless 0 <= start <= len(self), and DataError on an image
        that cannot be read and where a reading process dies.
        """
        if not 0 <= start <= len(self):
            raise OptionError(f"an epoch has {len(self)} batches and cannot start at batch {start}.")
        return self._iterate(epoch, start)

    def _next(self, batches: Iterator[Any], turn: object) -> Batch:
        """The next batch of a DataLoader, in the epoch that began as `turn`."""
        if self._turn != turn:
            raise RuntimeError("this epoch ended when another epoch of the same loader began")
        try:
            batch = next(batches)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise DataError(
                f"a process that reads images has died ({str(error).rstrip('.')}), as happens when the memory, or that "
                "shared between processes, is full. Free some, or set data.workers to a smaller number."
            ) from error
        try:
            if isinstance(batch, GCPError):
                raise batch
            return batch
        finally:
            del batch  # an error that its own traceback holds would keep the workers alive


class Loader(BatchLoader[ImageSet]):
    """The batches of an ImageSet, see BatchLoader."""

    def _open(self, pin_memory: bool) -> None:
        # The keys do not know the loader: a cycle would keep the workers alive after the loader is gone.
        self._keys = _Keys()
        self._loader = open_workers(Fetch(self.dataset), self._keys, self.workers, pin_memory)

    def order(self, epoch: int) -> np.ndarray:
        """Indices into the data set in the order of epoch `epoch`, int64, one per sample used."""
        count = len(self.dataset)
        if not self.train:
            return np.arange(count)
        if self.sampling == "uniform":
            return permutation(count, ORDER, self.seed, epoch)[: self.samples]
        return drawn(self.dataset.labels, self.sampling, self.seed, epoch)[: self.samples]

    def _iterate(self, epoch: int, start: int) -> Iterator[Batch]:
        turn = self._turn = object()
        order = self.order(epoch)
        seeds = hashed(AUGMENT, self.seed, epoch, np.arange(len(order))) if self.train else None
        self._keys.aim(order, seeds, self._slices(start))
        batches = begin(self._loader)
        for part in self._keys.slices:
            images, labels = self._next(batches, turn)
            yield images[: len(part)], labels[: len(part)]

    def _slices(self, start: int) -> list[np.ndarray]:
        """Places in the order of the epoch of each batch that comes here, from batch `start` on."""
        begins = [(batch * self.batch_size, batch) for batch in range(start, len(self))]
        if not self.train:
            return [at + np.arange(self.size(batch)) for at, batch in begins if self.rank_slice.scores(batch)]
        return [at + self.rank_slice.places(self.size(batch)) for at, batch in begins]


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


class Fetch(Dataset[Any]):
    """Whole batches of images by (indices, seeds); a fault is returned, for the process that asked to raise."""

    def __init__(self, images: ImageSet):
        self.images = images

    def __getitem__(self, key: tuple[np.ndarray, np.ndarray | None]) -> Any:
        try:
            return self.images.read(*key)
        except GCPError as error:
            return error  # raised in a worker it would arrive wrapped in the worker's traceback


def drawn(labels: np.ndarray, sampling: str, seed: int, epoch: int) -> np.ndarray:
    """Indices (N,) into labels (N,) in the order of an epoch, the classes as often as `sampling` says.

    By systematic sampling: an image that is expected e times is there floor(e) or ceil(e) times.
    """
    check_choice("data.sampling", sampling, SAMPLING)
    mixed = permutation(len(labels), ORDER, seed, epoch)
    mixed = mixed[np.argsort(labels[mixed], kind="stable")]  # a class as a whole, so that its share is met to a draw
    weight = np.bincount(labels)[labels[mixed]].astype(np.float64) ** {"balanced": -1.0, "sqrt": -0.5}[sampling]
    until = np.cumsum(weight)
    points = (np.arange(len(labels)) + uniform(DRAW, seed, epoch)) * until[-1] / len(labels)
    found = mixed[np.minimum(np.searchsorted(until, points, side="right"), len(labels) - 1)]
    return found[permutation(len(labels), DRAW, seed, epoch)]


def open_workers(fetch: Dataset[Any], keys: Any, workers: int, pin_memory: bool) -> DataLoader[Any]:
    """A DataLoader whose items are whole batches, so that images in memory are transformed together."""
    return DataLoader(
        fetch,
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        collate_fn=_unchanged,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # else each epoch would draw from the global one
    )


def begin(loader: DataLoader[Any]) -> Iterator[Any]:
    """An epoch of a DataLoader. The handler of SIGCHLD stays as it was: PyTorch's would raise the death of a worker
    anywhere in the program; without it the loader sees it, within five seconds, where it waits for the batch.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        return iter(loader)
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


def count_samples(count: int, batch_size: int, train: bool, drop_last: bool) -> int:
    """How many of `count` images an epoch uses; see BatchLoader. Raises OptionError where that makes no batch."""
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


def _unchanged(batch: Any) -> Any:
    return batch
