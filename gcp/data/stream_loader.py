"""Batches of a StreamSet, in an order that depends on (seed, epoch) and on nothing else; see `gcp.data.shard_streams`.

Worker w of n reads the shard streams w, w + n, w + 2n, ... These are the same for any number of workers, so batches
and augmentation are too, and an epoch has every sample exactly once.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from gcp.data.images import ImageSet
from gcp.data.loader import Batch, BatchLoader, Loader, begin, open_workers
from gcp.data.shard_streams import STREAMS, ShardStreams
from gcp.data.stream import StreamSet
from gcp.errors import GCPError, OptionError

Job = tuple[int, int, int]  # number of the iteration, epoch, first batch


class StreamLoader(BatchLoader[StreamSet]):
    """The batches of a stream; arguments, promises and errors as for `BatchLoader`, but for these.

    At most one worker per shard stream reads, so more than eight, or than there are shards, do not help. The
    beginning of an epoch waits until the buffers are full, in training a thousand samples per stream.
    """

    def _open(self, pin_memory: bool) -> None:
        self.streams = ShardStreams(self.dataset, self.batch_size, self.train, self.seed, self.rank_slice)
        self.most_workers = min(len(self.streams), self.dataset.most_workers or STREAMS)
        self.workers = min(self.workers, self.most_workers)
        self._count = 0
        n = max(1, self.workers)
        self._readers = [_Reader(self.streams, range(w, len(self.streams), n)) for w in range(n)]
        # One DataLoader per worker, so that a batch can be asked of the worker that has its stream.
        self._loaders: list[DataLoader[Any]] = [
            open_workers(reader, reader.jobs, min(1, self.workers), pin_memory) for reader in self._readers
        ]

    @property
    def advice(self) -> str:
        if self.workers == self.most_workers:
            return f"{self.workers} processes read already, which is all that this stream allows."
        return super().advice

    def _iterate(self, epoch: int, start: int) -> Iterator[Batch]:
        self._count += 1
        turn = self._turn = self._count
        plan = self.streams.plan(epoch)
        full = [stream for number, stream in enumerate(plan.full) if number >= start and self._comes(number)]
        order = [*full, *plan.rest]
        for reader in self._readers:
            reader.aim((turn, epoch, start), sum(stream in reader.own for stream in order))
        read = [begin(loader) for loader in self._loaders]
        batches = (self._next(read[stream % len(read)], turn) for stream in order)
        yield from islice(batches, min(len(full), max(0, len(self) - start)))
        for number, batch in enumerate(_joined(batches, self.batch_size), len(plan.full)):
            if start <= number < len(self) and self._comes(number):
                places = self.rank_slice.places(len(batch[1])) if self.train else slice(None)
                yield batch[0][places], batch[1][places]

    def _comes(self, number: int) -> bool:
        """Whether something of batch `number` comes to this process."""
        return self.train or self.rank_slice.scores(number)


def create_loader(images: ImageSet | StreamSet, batch_size: int, **options: Any) -> BatchLoader:
    """The loader of a split, by its kind; options as in `BatchLoader`.

    Examples:
        >>> import gcp
        >>> splits = gcp.data.create_dataset("digits", in_chans=1)
        >>> images, labels = next(iter(gcp.data.create_loader(splits.val, 16, train=False).epoch(0)))
        >>> images.shape, images.dtype
        (torch.Size([16, 1, 32, 32]), torch.float32)
    """
    if isinstance(images, StreamSet):
        if (sampling := options.get("sampling", "uniform")) != "uniform":
            raise OptionError(
                f"data.sampling is {sampling!r}; allowed for a stream, whose images come in order: uniform."
            )
        return StreamLoader(images, batch_size, **options)
    return Loader(images, batch_size, **options)


def _joined(parts: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Batches of `size`, the last one smaller, out of smaller ones."""
    images, labels = torch.empty(0), torch.empty(0)
    for part in parts:
        images, labels = map(torch.cat, zip((images, labels), part, strict=True)) if len(labels) else part
        if len(labels) >= size:
            yield images[:size], labels[:size]
            images, labels = images[size:], labels[size:]
    if len(labels):
        yield images, labels


class _Reader(Dataset[Any]):
    """The shard streams of one worker. Its items come in order: each key has its epoch, not its batch."""

    def __init__(self, streams: ShardStreams, own: range):
        self.streams = streams
        self.own = own
        # Keys do not know the reader: a cycle would keep the workers alive after the loader is gone.
        self.jobs: list[Job] = []
        self._job: Job | None = None
        self._batches: Iterator[Batch] = iter(())

    def aim(self, job: Job, items: int) -> None:
        """Let the next iteration ask for that many items of a job."""
        self.jobs[:] = [job] * items

    def __getitem__(self, job: Job) -> Any:
        if job != self._job:
            self._job, (_, epoch, start) = job, job
            self._batches = self.streams.batches(epoch, start, self.own)
        try:
            return next(self._batches)
        except GCPError as error:
            return error  # raised in a worker it would arrive wrapped in the worker's traceback
