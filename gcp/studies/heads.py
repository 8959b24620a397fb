"""Heads by shell patterns, and those that take a matrix root."""

from collections.abc import Iterable

from gcp.errors import UnknownNameError
from gcp.heads import HEADS, list_heads
from gcp.heads.root import CovarianceRoot


def select_heads(patterns: Iterable[str]) -> list[str]:
    """Heads that match any of the shell patterns, each once, in the order of the patterns.

    Raises:
        UnknownNameError: a pattern that matches nothing, with the nearest name.
    """
    names: dict[str, None] = {}
    for pattern in patterns:
        found = list_heads(pattern)
        if not found:
            raise UnknownNameError("head", pattern, HEADS)
        names.update((str(entry), None) for entry in found)
    return list(names)


def root_heads() -> list[str]:
    """Heads whose output is the matrix root of the covariance: those that one reference serves."""
    return [str(entry) for entry in list_heads() if isinstance(entry.obj.build(2), CovarianceRoot)]
