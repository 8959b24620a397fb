"""How a long walk over a data set reports its progress to whoever started it."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Watch(Protocol):
    """Hands the items on and may show how many of `total` are done, under the heading `text`."""

    def __call__(self, items: Iterable[T], total: int, text: str) -> Iterable[T]: ...


def silent(items: Iterable[T], total: int, text: str) -> Iterable[T]:
    """A Watch that shows nothing."""
    return items
