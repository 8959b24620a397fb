"""The text of `check_dataset`: what was found above, the faults below."""

from textwrap import fill
from typing import TYPE_CHECKING

from gcp.errors import counted

if TYPE_CHECKING:
    from gcp.data.checks.inspection import Inspection

WIDTH, MARGIN, NAME = 120, 14, 34


def head(found: "Inspection") -> str:
    """Layout, classes, the table of the splits, validation and notes."""
    rows = [("root", found.root), ("layout", found.layout)]
    if found.sizes:
        published = f" (published: {found.published_classes:,})" if found.published_classes else ""
        rows.append(("classes", f"{len(found.classes):,}{published}"))
    lines = [f"{found.name}: {found.summary}", *(_row(key, value) for key, value in rows if value)]
    if found.sizes:
        lines += ["", *_table(found), "", _row("validation", found.validation)]
    return "\n".join([*lines, *(_row("note", note) for note in found.notes)])


def tail(found: "Inspection", verified: bool) -> str:
    """The verdict. `verified`: every image was decoded."""
    if not found.faults:
        few = "every file is there, and a few of each split were decoded; --verify decodes all"
        return f"\nsound: {'every image was decoded' if verified else few if found.files else 'no fault found'}"
    return "\n".join([f"\n{counted(len(found.faults), 'fault')}:", *(f"  {fault}" for fault in found.faults)])


def _table(found: "Inspection") -> list[str]:
    lines = [f"  {'split':<8}{'images':>11}{'published':>11}   {'smallest class':<{NAME + 9}}largest class"]
    for name, size in found.sizes.items():
        published = f"{found.published[name]:,}" if name in found.published else "-"
        classes = "  ".join(f"{count:>7,} {_short(text):<{NAME}}" for count, text in found.extremes(name))
        lines.append(f"  {name:<8}{size:>11,}{published:>11} {classes}".rstrip())
    return lines


def _row(key: str, value: object) -> str:
    return fill(f"  {key:<{MARGIN - 2}}{value}", WIDTH, subsequent_indent=" " * MARGIN, break_on_hyphens=False)


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"
