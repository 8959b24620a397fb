"""`gcp list KIND [pattern]`, and `--list KIND [pattern]` of the commands that train and evaluate."""

from collections.abc import Callable
from fnmatch import fnmatchcase

from gcp.command import as_typed
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


def _recipes(pattern: str) -> list[Entry]:
    from gcp.config import recipes

    return _matching(recipes.recipes(), pattern)


def _studies(pattern: str) -> list[Entry]:
    from gcp.config import recipes

    return _matching(recipes.studies(), pattern)


def _loggers(pattern: str) -> list[Entry]:
    from gcp.loggers import LOGGERS

    return LOGGERS.list(pattern)


def _matching(names: dict[str, str], pattern: str) -> list[Entry]:
    return [Entry(name, None, text) for name, text in names.items() if fnmatchcase(name, pattern)]


KINDS: dict[str, Callable[[str], list[Entry]]] = {
    "heads": _heads,
    "rules": _rules,
    "backbones": _backbones,
    "datasets": _datasets,
    "transforms": _transforms,
    "recipes": _recipes,
    "studies": _studies,
    "loggers": _loggers,
}
LIST = f"--list {'|'.join(KINDS)} [pattern]"


USAGE = f"""\
Names that a configuration or a command takes, each with what it is.

  gcp list KIND [PATTERN]

  KIND       {", ".join(KINDS)}
  PATTERN    a shell pattern, such as 'svd_*'

Example:
  gcp list recipes 'digits/*'
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    if not argv or {"-h", "--help"} & set(argv):
        print(as_typed(USAGE))
        return 0
    if len(argv) > 2:
        raise GCPError(f"unexpected {argv[2]!r}: one KIND and one PATTERN, in quotes such as 'svd_*'; see --help.")
    from gcp.drawing.terminal import print_table

    entries = found(*argv)
    papers = any(entry.paper for entry in entries)
    rows = [[str(entry), entry.summary, *([entry.paper] if papers else [])] for entry in entries]
    print_table([argv[0], "what it is", *(["paper"] if papers else [])], rows, listing(*argv))
    return 0


def listing(kind: str, pattern: str = "*") -> str:
    """Names of a kind that match a shell pattern, each with its summary and paper. Raises as `found`."""
    entries = found(kind, pattern)
    width = min(max(map(len, entries)), 40)
    return "\n".join(_line(entry, width) for entry in entries)


def found(kind: str, pattern: str = "*") -> list[Entry]:
    """The entries of a kind whose name matches a shell pattern.

    Raises:
        UnknownNameError: no such kind.
        GCPError: nothing matches.
    """
    if kind not in KINDS:
        raise UnknownNameError("list", kind, KINDS)
    entries = KINDS[kind](pattern)
    if not entries:
        raise GCPError(f"no name in {kind} matches {pattern!r}.{suggest(pattern, KINDS[kind]('*'))}")
    return entries


def _line(entry: Entry, width: int) -> str:
    paper = f" [{entry.paper}]" if entry.paper else ""
    return f"{entry!s:<{width}}  {entry.summary}{paper}".rstrip()
