"""What a report is made of, before it is Markdown or HTML. Every text is plain: a renderer escapes it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """Title of a section, or of the report where `level` is 1."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """Points of a list."""

    points: Sequence[str]


@dataclass(frozen=True)
class Code:
    """A command to type."""

    text: str


@dataclass(frozen=True)
class Table:
    """Text in rows and columns: the first `heads` columns name the row, `words` are columns of sentences.

    `marked`: rows that stand out.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    heads: int = 1
    words: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """A figure: `name` of its file, `alt` for who cannot see it, `caption` with what to see in it."""

    name: str
    alt: str
    caption: str
    svg: str


Block = Heading | Text | Bullets | Code | Table | Picture
