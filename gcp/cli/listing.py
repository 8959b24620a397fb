"""`--list heads|rules|backbones|datasets|transforms [pattern]`."""

from collections.abc import Callable

from gcp.errors import GCPError, UnknownNameError, suggest
from gcp.registry import Entry


def _heads(pattern: str) -> list[Entry]:
    from gcp.heads import list_heads

    return list_heads(pattern)


def _rules(pattern: str) -> list[Entry]:
    from gcp.gradients import RULES

    return RULES.list(pattern)


def _backbones(pattern: str) -> list[Entry]:
    from gcp.models import list_backbones

    return list_backbones(pattern)


def _datasets(pattern: str) -> list[Entry]:
    from gcp.data import list_datasets

    return list_datasets(pattern)


def _transforms(pattern: str) -> list[Entry]:
    from gcp.data.transforms import TRANSFORMS

    return TRANSFORMS.list(pattern)


KINDS: dict[str, Callable[[str], list[Entry]]] = {
    "heads": _heads,
    "rules": _rules,
    "backbones": _backbones,
    "datasets": _datasets,
    "transforms": _transforms,
}


def listing(kind: str, pattern: str = "*") -> str:
    """Names of a kind that match a shell pattern, each with its summary and paper.

    Raises:
        UnknownNameError: no such kind.
        GCPError: nothing matches.
    """
    if kind not in KINDS:
        raise UnknownNameError("list", kind, KINDS)
    entries = KINDS[kind](pattern)
    if not entries:
        raise GCPError(f"no name in {kind} matches {pattern!r}.{suggest(pattern, KINDS[kind]('*'))}")
    width = min(max(map(len, entries)), 40)
    return "\n".join(_line(entry, width) for entry in entries)


def _line(entry: Entry, width: int) -> str:
    paper = f" [{entry.paper}]" if entry.paper else ""
    return f"{entry!s:<{width}}  {entry.summary}{paper}".rstrip()
