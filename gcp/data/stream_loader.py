"""Batches of a StreamSet, in an order that depends on (seed, epoch) and on nothing else; see `gcp.data.lanes`.

Worker w of n reads lanes w, w + n, w + 2n, ... The lanes are the same for any number of workers, so batches and
augmentation are too, and an epoch has every sample exactly once.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from gcp.data.imageset import ImageSet
from gcp.data.lanes import LANES, Batch, Lanes
from gcp.data.loader import Loader, advise, count_samples, count_workers
from gcp.data.normalize import Normalizer
from gcp.data.share import WHOLE, Share
from gcp.data.stream import StreamSet
from gcp.errors import GCPError, OptionError

Job = tuple[int, int, int]  # number of the iteration, epoch, first batch


class StreamLoader:
    """Iterates over a stream in batches; arguments, promises and errors as for `Loader`, but for these.

    At most one worker per lane reads, so more than eight, or than there are shards, do not help. The beginning of an
    epoch waits until the buffers are full, in training a thousand samples per lane.
    """

    def __init__(
        self,
        dataset: StreamSet,
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
        self.share = share
        self.samples = count_samples(len(dataset), batch_size, train, drop_last)
        self.lanes = Lanes(dataset, batch_size, train, seed, share)
        self.most_workers = min(len(self.lanes), dataset.most_workers or LANES)
        self.workers = min(count_workers(workers, dataset.in_memory), self.most_workers)
        self._turn = 0
        n = max(1, self.workers)
        self._readers = [_Reader(self.lanes, range(w, len(self.lanes), n)) for w in range(n)]
        self._loaders = [self._loader(reader, pin_memory) for reader in self._readers]

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.samples // self.batch_size)

    def size(self, batch: int) -> int:
        """Images of batch number `batch` in all processes together."""
        return min(self.batch_size, self.samples - batch * self.batch_size)

    @property
    def normalize(self) -> Normalizer:
        """That of the data set."""
        return self.dataset.normalize

    @property
    def advice(self) -> str:
        """What to change where a device waits for these batches."""
        if self.workers == self.most_workers:
            return f"{self.workers} processes read already, which is all that this stream allows."
        return advise(self.workers, self.dataset.in_memory)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches (images, labels) of epoch `epoch` from batch `start` on; those before are read over.

        Raises OptionError unless 0 <= start <= len(self), and DataError on what cannot be read.
        """
        if not 0 <= start <= len(self):
            raise OptionError(f"an epoch has {len(self)} batches and cannot start at batch {start}.")
        return self._iterate(epoch, start)

    def _iterate(self, epoch: int, start: int) -> Iterator[Batch]:
        self._turn += 1
        turn, plan = self._turn, self.lanes.plan(epoch)
        full = [lane for number, lane in enumerate(plan.full) if number >= start and self._comes(number)]
        order = [*full, *plan.rest]
        for reader in self._readers:
            reader.aim((turn, epoch, start), sum(lane in reader.own for lane in order))
        streams = [iter(loader) for loader in self._loaders]
        batches = (self._next(streams[lane % len(streams)], turn) for lane in order)
        yield from islice(batches, min(len(full), max(0, len(self) - start)))
        for number, batch in enumerate(_joined(batches, self.batch_size), len(plan.full)):
            if start <= number < len(self) and self._comes(number):
                places = self.share.places(len(batch[1])) if self.lanes.train else slice(None)
                yield batch[0][places], batch[1][places]

    def _comes(self, number: int) -> bool:
        """Whether something of batch `number` comes to this process."""
        return self.lanes.train or self.share.scores(number)

    def _next(self, stream: Iterator[Any], turn: int) -> Batch:
        if self._turn != turn:
            raise RuntimeError("this epoch ended when another epoch of the same loader began")
        batch = next(stream)
        try:
            if isinstance(batch, GCPError):
                raise batch
            return batch
        finally:
            del batch  # an error that its own traceback holds would keep the workers alive

    def _loader(self, reader: "_Reader", pin_memory: bool) -> DataLoader[Any]:
        # One DataLoader per worker, so that a batch can be asked of the worker that has its lane.
        return DataLoader(
            reader,
            batch_size=None,
            sampler=reader.jobs,
            num_workers=min(1, self.workers),
            collate_fn=_unchanged,
            pin_memory=pin_memory,
            persistent_workers=self.workers > 0,
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )


AnyLoader = Loader | StreamLoader


def create_loader(images: ImageSet | StreamSet, batch_size: int, **options: Any) -> AnyLoader:
    """The loader of a split, by its kind; options as in `Loader`."""
    if isinstance(images, StreamSet):
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
    """The lanes of one worker. Its items come in order: each key says of which epoch, not which batch."""

    def __init__(self, lanes: Lanes, own: range):
        self.lanes = lanes
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
            self._batches = self.lanes.batches(epoch, start, self.own)
        try:
            return next(self._batches)
        except GCPError as error:
            return error  # raised in a worker it would arrive wrapped in the worker's traceback


def _unchanged(batch: Any) -> Any:
    return batch
