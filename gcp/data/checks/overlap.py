"""Where files really are, and files that are in two splits.

Each folder is listed once and no file is touched but links, so that a million files take seconds.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from gcp.errors import counted


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
    """For each path, that of the file with all links followed; None where there is no file."""
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
                # On most file systems the folder itself says what is a link.
                self.links = {entry.name: entry.is_symlink() for entry in entries}
        except OSError:
            self.links = {}

    def find(self, name: str) -> str | None:
        if self.links.get(name) is False:
            return f"{self.real}{os.sep}{name}"
        # A link; or a name that is spelt otherwise in the folder, which some file systems accept.
        path = f"{self.path}{os.sep}{name}"
        return os.path.realpath(path) if os.path.exists(path) else None
