"""A million paths in one piece of memory.

Worker processes share the memory of the process that they were forked from until one of them writes to it, and
reading a Python string writes to its reference count: a list of a million paths would be copied into every worker,
page by page. One text has one count.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np


class Paths(Sequence[str]):
    """Paths as one text with their offsets, made into strings when read."""

    def __init__(self, paths: Iterable[str]):
        every = tuple(paths)
        bounds = np.cumsum([0, *map(len, every)], dtype=np.int64)
        self._starts, self._ends = bounds[:-1], bounds[1:]
        self._text = "".join(every)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Paths":
        """The paths at `indices`, in that order, on the same text."""
        taken = Paths(())
        taken._text, taken._starts, taken._ends = self._text, self._starts[indices], self._ends[indices]
        return taken

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Paths": ...
    def __getitem__(self, index: int | slice) -> "str | Paths":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return self._text[self._starts[index] : self._ends[index]]

    def __iter__(self) -> Iterator[str]:
        text = self._text
        return (text[start:end] for start, end in zip(self._starts.tolist(), self._ends.tolist(), strict=True))
