"""Images that are there twice, byte for byte, whatever their names: in two splits, or in one.

A test image that was trained on is recognised, not classified. Files are compared by size first, and by a hash of their
bytes where a size occurs in two splits, so that few files are read.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import NamedTuple, TypeVar

from gcp.data.checks.verify import ProgressBar, silent
from gcp.data.decode import read_regular
from gcp.data.images import ImageSet
from gcp.errors import DataError

THREADS = 16  # they wait for the disk
CHUNK = 64
Result = TypeVar("Result")


class Duplicate(NamedTuple):
    """An image of split `second` and an identical one of split `first`, by path, or by index in the split."""

    first: str
    one: str
    second: str
    other: str


def shared_files(
    splits: Mapping[str, Sequence[str]], watch: ProgressBar = silent, within: bool = False
) -> list[Duplicate]:
    """For each file of a split that an earlier split has too, the pair of them. Files that cannot be read are left out.

    within: also the files that are twice in one split; of photographs nearly every one is read for that. One file that
    two splits name, also through links, is no pair: the fast check reports it.
    """
    every = [(split, path) for split, paths in splits.items() for path in paths]
    sizes = _in_threads(_size, [path for _, path in every], watch, "sizes")
    having = defaultdict(set)
    for (split, path), size in zip(every, sizes, strict=True):
        having[size].add(path if within else split)
    alike = [place for place, size in zip(every, sizes, strict=True) if size >= 0 and len(having[size]) > 1]
    digests = _in_threads(_digest, [path for _, path in alike], watch, "contents")
    places = ((split, path, digest) for (split, path), digest in zip(alike, digests, strict=True) if digest)
    found = _duplicates(places, within)
    return [each for each in found if os.path.realpath(each.one) != os.path.realpath(each.other)]


def shared_images(splits: Mapping[str, ImageSet], watch: ProgressBar = silent) -> list[Duplicate]:
    """The same for images that are no files, by their pixels without augmentation. Unreadable ones are left out."""
    places = []
    for split, images in splits.items():
        for index in watch(range(len(images)), len(images), f"contents of {split}"):
            try:
                pixels = images[index][0].numpy().tobytes()
            except DataError:
                continue
            places.append((split, str(index), blake2b(pixels).digest()))
    return _duplicates(places)


def _duplicates(places: Iterable[tuple[str, str, bytes]], within: bool = False) -> list[Duplicate]:
    """From (split, name, digest), the splits in their order."""
    seen: dict[bytes, tuple[str, str]] = {}
    duplicates = []
    for split, name, digest in places:
        first, one = seen.setdefault(digest, (split, name))
        if first != split or (within and one != name):
            duplicates.append(Duplicate(first, one, split, name))
    return duplicates


def _in_threads(function: Callable[[str], Result], paths: list[str], watch: ProgressBar, text: str) -> list[Result]:
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    pool = ThreadPoolExecutor(THREADS)
    try:
        parts = pool.map(lambda chunk: [function(path) for path in chunk], chunks)
        return list(watch((result for part in parts for result in part), len(paths), text))
    finally:  # after Ctrl-C what has not begun is dropped
        pool.shutdown(cancel_futures=True)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _digest(path: str) -> bytes:
    try:
        return blake2b(read_regular(path)).digest()
    except OSError:
        return b""
