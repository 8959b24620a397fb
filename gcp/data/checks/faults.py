"""The fast check of a data set on disk: everything that can be said without decoding all of it.

Folders are listed and files are not touched, so that it takes seconds on the 1.3 million files of ImageNet; a
handful of images of each split is decoded, and all of a small one.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from gcp.data.annotations.listing import Files, Listing
from gcp.data.decode import decode
from gcp.errors import DataError, counted

if TYPE_CHECKING:
    from gcp.data.source import Source

HANDFUL = 4  # images of each split that are decoded
FEW = 64  # a split of so many is decoded whole, in a second at the most
_SHOWN = 5


def check_listing(place: str, listing: Listing, source: "Source", partial: bool) -> None:
    """Raise DataError with every fault of the data set at `place`.

    partial: accept counts other than the published ones of `source`.
    """
    faults = find_faults(listing, source, partial)
    if faults:
        head = f"{counted(len(faults), 'fault')} in {place}, read as {listing.layout}:"
        raise DataError("\n".join([head, *(f"  {fault}" for fault in faults)]))


def find_faults(listing: Listing, source: "Source", partial: bool) -> list[str]:
    """Every fault of a listing, one sentence each; see `check_listing`."""
    faults = [*listing.faults, *_labels(listing)]
    if not partial:
        faults += _counts(listing, source)
    return [*faults, *_places(listing.splits), *_undecodable(listing.splits)]


def _labels(listing: Listing) -> Iterator[str]:
    if len(listing.classes) == 1:
        yield f"a single class, {listing.classes[0]!r}: nothing to tell apart. Do its folders lie a level too deep?"
    for name, files in listing.splits.items():
        count = len(listing.classes)
        outside = np.flatnonzero((files.labels < 0) | (files.labels >= count))
        if len(outside):
            first = outside[0]
            yield (
                f"{counted(len(outside), 'label')} of {name} outside of 0 to {count - 1}, the first: "
                f"{files.labels[first]} of {files.paths[first]}"
            )
        empty = sorted(set(range(count)) - set(np.unique(files.labels).tolist()))
        if empty and not listing.faults:  # where the folders show it, the reader has said it
            shown = ", ".join(repr(listing.classes[label]) for label in empty[:_SHOWN])
            more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
            yield f"{name} has no image of {len(empty)} of the {count} classes: {shown}{more}"


def _places(splits: Mapping[str, Files]) -> Iterator[str]:
    """Files that are not there, or there twice."""
    found: dict[str, list[str]] = {}
    for name, files in splits.items():
        real = real_paths(files.paths)
        found[name] = [path for path in real if path]
        for kind, what in ((None, "missing"), ("", "no regular files but pipes, sockets, devices or folders")):
            lost = [path for path, place in zip(files.paths, real, strict=True) if place == kind]
            if lost:
                yield f"{len(lost):,} of {counted(len(files), 'file')} of {name} {what}, the first: {lost[0]}"
    yield from overlaps(found)


def _counts(listing: Listing, source: "Source") -> Iterator[str]:
    hint = "a part of the data set is taken with data.partial=true"
    if source.classes is not None and len(listing.classes) != source.classes:
        yield f"{counted(len(listing.classes), 'class')}, published: {source.classes:,}; {hint}"
    for name, published in (source.counts or {}).items():
        found = len(listing.splits[name]) if name in listing.splits else 0
        if found != published:
            yield f"{name} has {counted(found, 'image')}, published: {published:,}; {hint}"


def _undecodable(splits: Mapping[str, Files]) -> Iterator[str]:
    for files in splits.values():
        count = len(files) if len(files) <= FEW else HANDFUL
        for index in np.linspace(0, len(files) - 1, count).round().astype(int).tolist():
            if os.path.isfile(files.paths[index]):  # another is reported as such
                try:
                    decode(files.paths[index], 3)
                except DataError as error:
                    yield str(error)


def overlaps(splits: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """One sentence for each split that has a path twice, and for each pair of splits that share one."""
    sets = {name: set(paths) for name, paths in splits.items()}
    for name, paths in splits.items():
        if len(sets[name]) < len(paths):
            seen: set[str] = set()
            first = next(path for path in paths if path in seen or seen.add(path))  # type: ignore[func-returns-value]
            yield f"{counted(len(paths) - len(sets[name]), 'file')} twice in {name}, the first: {first}"
    for one, other in combinations(sets, 2):
        shared = sets[one] & sets[other]
        if shared:
            yield f"{counted(len(shared), 'file')} both in {one} and in {other}, the first: {min(shared)}"


def real_paths(paths: Sequence[str]) -> list[str | None]:
    """For each path, that of the file with all links followed; None where there is none, and "" for what is no regular
    file, such as a pipe.
    """
    folders: dict[str, _Folder] = {}
    real = []
    for path in paths:
        folder, _, name = path.rpartition(os.sep)
        if folder not in folders:
            folders[folder] = _Folder(folder)
        real.append(folders[folder].find(name))
    return real


class _Folder:
    def __init__(self, path: str):
        self.path = path
        self.real = os.path.realpath(path)
        try:
            with os.scandir(path) as entries:
                # On most file systems the folder itself says what is a file and what a link.
                self.files = {
                    entry.name: entry.is_file(follow_symlinks=False) for entry in entries if not entry.is_symlink()
                }
        except OSError:
            self.files = {}

    def find(self, name: str) -> str | None:
        regular = self.files.get(name)
        if regular is not None:
            return f"{self.real}{os.sep}{name}" if regular else ""
        # A link; or a name that is spelt otherwise in the folder, which some file systems accept.
        path = f"{self.path}{os.sep}{name}"
        if not os.path.exists(path):
            return None
        return os.path.realpath(path) if os.path.isfile(path) else ""
