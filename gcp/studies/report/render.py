"""What a report is made of, and how it becomes Markdown and HTML. Every text is plain: a renderer escapes it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from string import Template

from gcp.drawing.figure import inline, variables


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


def to_markdown(blocks: Sequence[Block], folder: str) -> str:
    """The text of report.md; `folder`: of the figures, as its links name it."""
    figures = [block.name for block in blocks if isinstance(block, Picture)]
    tables = [block for block in blocks if isinstance(block, Table)]
    parts = [
        _markdown_table(block, tables.index(block) + 1)
        if isinstance(block, Table)
        else _markdown(block, folder, figures)
        for block in blocks
    ]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Heading | Text | Bullets | Code | Picture, folder: str, figures: list[str]) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {plain(text)}"
        case Text(text):
            return plain(text)
        case Bullets(points):
            return "\n".join(f"- {plain(point)}" for point in points)
        case Code(text):
            fence = _fence(text, 3)
            return f"{fence}bash\n{text}\n{fence}"
        case Picture(name, alt, caption):
            number = figures.index(name) + 1
            return f"![{plain(alt)}]({folder}/{name}.svg)\n\n*Figure {number}.* {plain(caption)}"


def _markdown_table(table: Table, number: int) -> str:
    left = [place < table.heads or place in table.words for place in range(len(table.columns))]
    lines = [table.columns, ["---" if each else "---:" for each in left]]
    rows = [[plain(cell) for cell in row] for row in table.rows]
    rows = [
        [
            f"**{cell}**" if place in table.marked and column < table.heads and cell else cell
            for column, cell in enumerate(row)
        ]
        for place, row in enumerate(rows)
    ]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in [*lines, *rows])
    return f"{text}\n\n*Table {number}.* {plain(table.caption)}"


def code(text: str) -> str:
    """Code within a line of Markdown, on one line."""
    text = " ".join(text.split())
    fence = _fence(text, 1)
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _fence(text: str, least: int) -> str:
    """More backticks than stand together anywhere in the text."""
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))


def plain(text: str) -> str:
    """Text that Markdown leaves as it is, on one line."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    return re.sub(r"^([#+\-]|\d+[.)])(?=\s)", r"\\\1", text)


PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="description" content="$description">
<title>$title</title>
<style>
$style
</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")

STYLE = Template("""\
:root { $light }
@media screen and (prefers-color-scheme: dark) { :root { $dark } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0.5rem 0 1rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 0.8rem; padding-bottom: 0.25rem; border-bottom: 1px solid var(--line); }
p, ul { max-width: 46rem; }
li { margin: 0.35rem 0; }
nav { font-size: 0.9rem; color: var(--mute); }
nav a { margin-right: 1rem; display: inline-block; }
a { color: var(--blue); }
pre { border: 1px solid var(--line); border-radius: 6px; padding: 0.7rem 0.9rem; white-space: pre-wrap;
      font-size: 0.88rem; }
.wide { overflow-x: auto; margin: 1rem 0 0.5rem; }
.wide:focus-visible { outline: 2px solid var(--blue); }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
.caption, figcaption { font-size: 0.88rem; color: var(--mute); max-width: 46rem; }
.caption { margin: 0.5rem 0 2rem; }
.caption b, figcaption b { color: var(--ink); }
th, td { text-align: right; padding: 0.28rem 0.5rem; border-bottom: 1px solid var(--line); vertical-align: top;
         white-space: nowrap; }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--mute); white-space: normal; }
th.word, td.word, tbody th { text-align: left; font-weight: 400; }
tbody th { white-space: normal; }
tbody th:first-child { position: sticky; left: 0; background: var(--paper); }
thead th.word { font-weight: 700; }
td.word.long { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
tr.marked { font-weight: 700; }
tr.marked th { font-weight: 700; }
figure { margin: 1.4rem 0 2.2rem; }
figure svg { display: block; width: 100%; min-width: 20rem; max-width: 46rem; height: auto; }
@media print {
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  .wide { overflow: visible; }
  table { font-size: 7pt; }
  th, td { padding: 0.15rem 0.25rem; white-space: normal; }
  figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
}
""")


def to_html(blocks: Sequence[Block], title: str, description: str) -> str:
    """The page."""
    sections = [block.text for block in blocks if isinstance(block, Heading) and block.level > 1]
    figures = [block.name for block in blocks if isinstance(block, Picture)]
    tables = [block for block in blocks if isinstance(block, Table)]
    parts = [
        _html_table(block, tables.index(block) + 1) if isinstance(block, Table) else _html(block, figures)
        for block in blocks
    ]
    parts.insert(1, _contents(sections))
    return PAGE.substitute(
        title=escape(title),
        description=escape(description),
        style=STYLE.substitute(light=variables(False), dark=variables(True)),
        body="\n".join(parts),
    )


def _contents(sections: Sequence[str]) -> str:
    links = "".join(f'<a href="#{_anchor(text)}">{escape(text)}</a>\n' for text in sections)
    return f'<nav aria-label="Contents">\n{links}</nav>'


def _anchor(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def _html(block: Heading | Text | Bullets | Code | Picture, figures: list[str]) -> str:
    match block:
        case Heading(text, 1):
            return f"<h1>{escape(text)}</h1>"
        case Heading(text):
            return f'<h2 id="{_anchor(text)}">{escape(text)}</h2>'
        case Text(text):
            return f"<p>{escape(text)}</p>"
        case Bullets(points):
            return "<ul>\n" + "\n".join(f"<li>{escape(point)}</li>" for point in points) + "\n</ul>"
        case Code(text):
            return f"<pre><code>{escape(text)}</code></pre>"
        case Picture(name, alt, caption, svg):
            drawn = inline(svg, alt, name)
            label = f"Figure {figures.index(name) + 1}"
            return (
                f'<figure id="figure-{name}">\n{_scrolling(label, drawn)}\n'
                f"<figcaption><b>{label}.</b> {escape(caption)}</figcaption>\n</figure>"
            )


def _html_table(table: Table, number: int) -> str:
    def kind(column: int, cells: Sequence[str] = ()) -> str:
        if column >= table.heads and column not in table.words:
            return ""
        long = any(len(cell) > 40 for cell in cells)
        return ' class="word long"' if long else ' class="word"'

    columns = [[row[place] for row in table.rows] for place in range(len(table.columns))]
    heads = "".join(f'<th scope="col"{kind(place)}>{escape(name)}</th>' for place, name in enumerate(table.columns))
    lines = []
    for place, row in enumerate(table.rows):
        cells = "".join(
            f'<th scope="row">{escape(cell)}</th>'
            if column < table.heads
            else f"<td{kind(column, columns[column])}>{escape(cell)}</td>"
            for column, cell in enumerate(row)
        )
        mark = ' class="marked"' if place in table.marked else ""
        lines.append(f"<tr{mark}>{cells}</tr>")
    body = "\n".join(lines)
    label = f"Table {number}"
    head = f'<table aria-labelledby="table-{number}">\n<thead><tr>{heads}</tr></thead>'
    text = f"{head}\n<tbody>\n{body}\n</tbody>\n</table>\n"
    caption = f'<p class="caption" id="table-{number}"><b>{label}.</b> {escape(table.caption)}</p>'
    return f"{_scrolling(label, text)}\n{caption}"


def _scrolling(label: str, inner: str) -> str:
    """What may be wider than a phone, reachable by the keyboard."""
    return f'<div class="wide" tabindex="0" role="group" aria-label="{label}">\n{inner}</div>'
