"""A report as Markdown: pictures are files beside it."""

import re
from collections.abc import Sequence

from gcp.studies.report.blocks import Block, Bullets, Code, Heading, Picture, Table, Text


def to_markdown(blocks: Sequence[Block], folder: str) -> str:
    """The text of report.md; `folder`: of the figures, as its links name it."""
    figures = [block.name for block in blocks if isinstance(block, Picture)]
    tables = [block for block in blocks if isinstance(block, Table)]
    parts = [
        _table(block, tables.index(block) + 1) if isinstance(block, Table) else _block(block, folder, figures)
        for block in blocks
    ]
    return "\n\n".join(parts) + "\n"


def _block(block: Heading | Text | Bullets | Code | Picture, folder: str, figures: list[str]) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Text(text):
            return _plain(text)
        case Bullets(points):
            return "\n".join(f"- {_plain(point)}" for point in points)
        case Code(text):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            return f"{fence}bash\n{text}\n{fence}"
        case Picture(name, alt, caption):
            number = figures.index(name) + 1
            return f"![{_plain(alt)}]({folder}/{name}.svg)\n\n*Figure {number}.* {_plain(caption)}"


def _table(table: Table, number: int) -> str:
    left = [place < table.heads or place in table.words for place in range(len(table.columns))]
    lines = [table.columns, ["---" if each else "---:" for each in left]]
    rows = [[_plain(cell) for cell in row] for row in table.rows]
    rows = [
        [
            f"**{cell}**" if place in table.marked and column < table.heads and cell else cell
            for column, cell in enumerate(row)
        ]
        for place, row in enumerate(rows)
    ]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in [*lines, *rows])
    return f"{text}\n\n*Table {number}.* {_plain(table.caption)}"


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is, on one line."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    return re.sub(r"^([#+\-]|\d+[.)])(?=\s)", r"\\\1", text)
