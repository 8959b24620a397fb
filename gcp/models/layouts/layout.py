"""A layout: how a family of files names the weights, by prefixes, and how to tell it from its keys."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gcp.models.checkpoints import State
from gcp.registry import Entry, Registry

Spelling = tuple[tuple[str, str], ...]
REDUCTION, CLASSIFIER, BODY = "head.reduction.", "classifier.", "features.body."


@dataclass(frozen=True)
class Layout:
    """One family of files.

    Attributes:
        recognise: whether a state dict is of this family, by its keys.
        spellings: ways to turn its keys into ours; each is pairs (prefix there, prefix here), of which the first
            that a key begins with counts. Where there are several, the one under which most tensors fit is taken.
        arguments: what the family says of the model beyond its shapes, as arguments of `create_model`.
        packs: whether the classifier reads a triangle, whose order the keys do not tell.
        wrapped: a prefix that DataParallel lengthened by `module.` in the published files, for writing them.
    """

    recognise: Callable[[State], bool]
    spellings: tuple[Spelling, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    packs: bool = False
    wrapped: str = ""


LAYOUTS: Registry[Layout] = Registry("layout")
FALLBACK = "plain"


def recognise(state: State) -> Entry[Layout]:
    """The layout of a state dict; `plain` (torchvision, timm) where its keys are those of no other."""
    return next((entry for entry in LAYOUTS.list() if entry.obj.recognise(state)), LAYOUTS[FALLBACK])


def rename(keys: Iterable[str], spelling: Spelling) -> dict[str, str]:
    """Key of the file -> key of ours; keys that no prefix fits stay out."""
    found = {}
    for key in keys:
        pair = next((pair for pair in spelling if key.startswith(pair[0])), None)
        if pair is not None:
            found[key] = pair[1] + key.removeprefix(pair[0])
    return found


def restore(keys: Iterable[str], layout: Layout) -> dict[str, str]:
    """Key of ours -> key of the file: the inverse of `rename`, with the prefix of DataParallel where it was."""

    def backwards(spelling: Spelling) -> dict[str, str]:
        return rename(keys, tuple((ours, theirs) for theirs, ours in spelling))

    def named(spelling: Spelling) -> tuple[int, int]:  # of two that name all, the one whose prefixes say more
        return len(backwards(spelling)), sum(len(ours) for _, ours in spelling)

    keys = list(keys)
    names = backwards(max(layout.spellings, key=named))
    if not layout.wrapped:
        return names
    wrapped = layout.wrapped
    return {ours: wrapped + "module." + theirs.removeprefix(wrapped) if theirs.startswith(wrapped) else theirs
            for ours, theirs in names.items()}  # fmt: skip


def best_spelling(state: State, layout: Layout, fits: Callable[[str, tuple[int, ...]], bool]) -> Spelling:
    """The spelling under which most tensors of the file fit, by `fits(our key, shape)`; the first of equals."""

    def count(spelling: Spelling) -> int:
        renamed = rename(state, spelling)
        return sum(fits(ours, tuple(state[theirs].shape)) for theirs, ours in renamed.items())

    return max(layout.spellings, key=count)
