"""The code blocks of the pages, and what is written about them in comments that readers do not see.

| comment before a block | |
|---|---|
| `<!-- not run: REASON -->` | the block is not run, and why |
| `<!-- needs: PACKAGE -->` | it is not run without this package, which scripts/interop.sh installs |
| `<!-- given:` newline, lines of Python, newline `-->` | these run before it: what its reader has already |
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_PART = re.compile(
    r"^<!-- (?P<word>not run|given|needs):(?P<said>.*?)-->|^(?P<fence>```+) *(?P<kind>.*?)\n(?P<text>.*?)^(?P=fence)$",
    re.M | re.S,
)
# a command in a paragraph of its own
_INDENTED = re.compile(r"^ {4,}(?:\w+=\S+ )*(?:gcp|python|bash|torchrun|pip) (?:.*\\\n)*.*$", re.M)


@dataclass(frozen=True)
class Block:
    """A code block: line of its first line in the page, language, text, given lines, package, and why it is not run."""

    line: int
    kind: str
    text: str
    given: str = ""
    package: str = ""
    reason: str | None = None


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page in their order."""
    found, said = [], {}
    text = page.read_text()
    for part in _PART.finditer(text):
        if part["word"]:
            said[part["word"]] = part["said"]
            continue
        line = text.count("\n", 0, part.start("text")) + 1
        kind = part["kind"].split()[0] if part["kind"] else ""
        reason = said.get("not run")
        package = said.get("needs", "").strip()
        found.append(Block(line, kind, part["text"], said.get("given", ""), package, reason and reason.strip()))
        said = {}
    rest = _PART.sub(lambda part: "\n" * part[0].count("\n"), text)
    for command in _INDENTED.finditer(rest):
        found.append(Block(rest.count("\n", 0, command.start()) + 1, "bash", command[0]))
    assert not said, f"{page}: a comment without a code block after it"
    return found


def shell_commands(text: str) -> list[list[str]]:
    """The words of every command of a bash block, without comments; variables of the shell are 0."""
    commands, open_line = [], ""
    for line in text.splitlines():
        open_line += line
        if line.endswith("\\"):
            open_line = open_line[:-1]
            continue
        try:
            words = shlex.split(re.sub(r"\$\w+", "0", open_line), comments=True)
        except ValueError:  # a quotation that goes on in the next line
            open_line += "\n"
            continue
        open_line = ""
        while "&&" in words:
            place = words.index("&&")
            commands.append(words[:place])
            words = words[place + 1 :]
        commands.append(words)
    assert not open_line.strip(), f"a quotation is not closed: {open_line}"
    return [words for words in map(_without_variables, commands) if words]


def _without_variables(words: list[str]) -> list[str]:
    while words and (re.fullmatch(r"[A-Z_]+=.*", words[0]) or words[0] in ("do", "time")):
        words = words[1:]
    return words
