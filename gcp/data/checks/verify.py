"""Decoding every image of a data set, in processes."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple, Protocol, TypeVar

import torch

from gcp.data.decode import decode
from gcp.data.images import ImageSet
from gcp.data.loader import usable_cores
from gcp.data.stream import StreamSet
from gcp.errors import DataError

SMALL = 32  # pixels: a shorter side than that is worth a second look
CHUNK = 64
# Below that many images starting processes costs more than they save.
FEW = 512
_TAG = 0x0112  # orientation in EXIF


T = TypeVar("T")
R = TypeVar("R")


class ProgressBar(Protocol):
    """Hands the items on and may show how many of `total` are done, under the heading `text`."""

    def __call__(self, items: Iterable[T], total: int, text: str) -> Iterable[T]: ...


def silent(items: Iterable[T], total: int, text: str) -> Iterable[T]:
    """A ProgressBar that shows nothing."""
    return items


class DecodedFile(NamedTuple):
    """What was found about one image. `reason`: why it cannot be decoded, or None."""

    path: str
    reason: str | None
    rotated: bool
    small: bool


@dataclass(frozen=True)
class Verified:
    """The outcome. `images` were decoded or tried; `unreadable`: (path, reason) in the order given.

    `rotated`: images that a viewer would turn by their EXIF orientation, in training data.exif decides.
    `small`: images with a side below 32 pixels.
    """

    images: int
    unreadable: tuple[tuple[str, str], ...]
    rotated: int
    small: int


def verify(paths: Sequence[str], workers: int | None = None, watch: ProgressBar = silent) -> Verified:
    """Decode every file. `workers`: processes, None for one per core, 0 for none.

    Raises DataError where a process dies, which a lack of memory can cause.
    """
    unreadable, rotated, small = [], 0, 0
    for each in watch(in_processes(_examine, paths, workers), len(paths), "decoding"):
        if each.reason is not None:
            unreadable.append((each.path, each.reason))
        rotated += each.rotated
        small += each.small
    return Verified(len(paths), tuple(unreadable), rotated, small)


def verify_sets(splits: Mapping[str, ImageSet | StreamSet], watch: ProgressBar = silent) -> Verified:
    """Read every image of sets that are no files, in this process. Orientation and stored size are not known: 0."""
    total = sum(len(images) for images in splits.values())
    reads = ((split, read) for split, images in splits.items() for read in _reads(images))
    unreadable = []
    for split, read in watch(reads, total, "decoding"):
        try:
            read()
        except DataError as error:
            unreadable.append((split, str(error)))
    return Verified(total, tuple(unreadable), 0, 0)


def _reads(images: ImageSet | StreamSet) -> Iterator[Callable[[], object]]:
    """A call for each image; of a stream one for each shard that breaks off, too."""
    if not isinstance(images, StreamSet):
        yield from (partial(images.__getitem__, index) for index in range(len(images)))
        return
    for shard in images.shards:
        try:
            yield from (partial(images.batch, [sample]) for sample in images.samples(shard))
        except DataError as error:
            yield partial(_raise, error)


def _raise(error: DataError) -> None:
    raise error


def in_processes(function: Callable[[str], R], paths: Sequence[str], workers: int | None = None) -> Iterator[R]:
    """`function` of every path, in order. `workers`: processes, None for one per core, 0 for none.

    Raises DataError where a process dies, which a lack of memory can cause.
    """
    if workers is None:
        workers = 0 if len(paths) < FEW else usable_cores()
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    call = partial(_call, function)
    if workers == 0:
        for chunk in chunks:
            yield from call(chunk)
        return
    pool = ProcessPoolExecutor(workers, get_context("fork"), initializer=_prepare, initargs=(os.getpid(),))
    # Ctrl-C reaches every process of a terminal. The workers inherit that it is blocked: the first one ends them.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        parts = pool.map(call, chunks)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for part in parts:
            yield from part
    except BrokenProcessPool as error:
        raise DataError(
            "a process that decoded images has died, as happens when the memory is full. Free some and try again."
        ) from error
    finally:  # after Ctrl-C what has not begun is dropped
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        pool.shutdown(cancel_futures=True)


def _prepare(parent: int) -> None:
    torch.set_num_threads(1)  # the threads of the process that this one was forked from do not exist here
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    """End with the process that began this one, even where that is killed and cannot say so."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _call(function: Callable[[str], R], paths: Sequence[str]) -> list[R]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow about odd metadata
        return [function(path) for path in paths]


def _examine(path: str) -> DecodedFile:
    try:
        pixels = decode(path, 3)
    except DataError as error:
        cause = error.__cause__
        return DecodedFile(path, f"{type(cause).__name__}: {cause}" if cause else str(error), False, False)
    return DecodedFile(path, None, _orientation(path) in range(2, 9), min(pixels.shape[1:]) < SMALL)


def _orientation(path: str) -> int:
    """By EXIF; 1 is as_shown."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.getexif().get(_TAG, 1)
    except Exception:  # damaged metadata raise nearly anything, and the image was decoded without them
        return 1
