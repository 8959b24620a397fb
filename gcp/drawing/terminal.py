"""What a command prints, with bold names and tables that fit where stdout is a terminal and `rich` is installed. The
plain text that everything else gets, a pipe or a file, is the same with and without it.

    print_facts(text)                   # lines of a name and what it is, from column 12
    print_table(heads, rows, text)      # the rows, or the text that says the same
    print_markdown(text)                # a report

NO_COLOR, TERM=dumb and COLUMNS are heeded.
"""

import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from gcp.command import Printable, visible

NAME = 12  # columns of the name of a fact
NAMED = 30  # columns of a name that is never broken
_NUMBER = re.compile(r"[+-]?(\d[\d.,]*|\.\d+|nan|inf)(e[+-]?\d+)?( .*)?")


def print_facts(text: str) -> None:
    """Print lines such as `top-1       99.44 %`: the names bold, what is too long for a line indented under itself."""
    console = _console()
    if console is None:
        print(text)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1), pad_edge=False)
    table.add_column(style="bold", min_width=NAME - 1, no_wrap=True)
    table.add_column(overflow="fold")
    for line in visible(text).splitlines():
        table.add_row(Text(line[:NAME].rstrip()), Text(line[NAME:]))
    console.print(table)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], text: str, red: Sequence[int] = ()) -> None:
    """Print a table, or `text` where there is no terminal. Columns of numbers are aligned to the right; `red`: the rows
    that something is wrong with.
    """
    console = _console()
    if console is None:
        print(text)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, head in enumerate(heads):
        column = [row[place] for row in rows if row[place]]
        numeric = bool(column) and all(_NUMBER.fullmatch(cell) for cell in column)
        name = place == 0 and max(map(len, column), default=0) <= NAMED
        justify, style = "right" if numeric else "left", "bold" if place == 0 else None
        table.add_column(Text(head), style=style, justify=justify, overflow="fold", no_wrap=name)  # type: ignore[arg-type]
    for number, row in enumerate(rows):
        table.add_row(*(Text(visible(cell)) for cell in row), style="red" if number in red else None)
    console.print(table)


def print_markdown(text: str) -> None:
    """Print a text in Markdown, its tables drawn."""
    console = _console()
    if console is None:
        print(text, flush=True)
        return
    from rich.markdown import Markdown

    console.print(Markdown(visible(text)))


def _console() -> Any:
    """Where rich draws, None where it should or can not."""
    stream = sys.stdout
    if not stream.isatty() or find_spec("rich") is None:
        return None
    from rich.console import Console

    # Printable shows the orders of rich to the terminal as text; what is not ours is made visible cell by cell
    console = Console(file=stream.stream if isinstance(stream, Printable) else stream, highlight=False)
    return None if console.is_dumb_terminal else console
