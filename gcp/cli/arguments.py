"""Command lines of the form `--flag VALUE key=value ...`."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from gcp.command import as_typed
from gcp.errors import GCPError, OptionError, nearest
from gcp.runs.task import CLASSIFIER, Task

Flags = dict[str, list[str]]
OUTPUTS = ("-o", "--out", "--output", "--file", "--csv")  # what is typed where the output is a word without a flag
ANSWERED = {"--list": (0, 2), "--help": (0, 0)}  # flags of the commands that take a configuration, see `answer`


@dataclass
class Arguments:
    """Flags with their values, and the `key=value` words in their order."""

    flags: dict[str, list[str]] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)

    def value(self, flag: str) -> str | None:
        """First value of a flag, None where it was not given."""
        return self.flags[flag][0] if flag in self.flags else None

    def take(self, key: str) -> str | None:
        """Remove `key=value` from the overrides and return its last value, None where it was not given."""
        found = [word.partition("=")[2] for word in self.overrides if word.partition("=")[0] == key]
        self.overrides = [word for word in self.overrides if word.partition("=")[0] != key]
        if found and not found[-1]:
            raise GCPError(f"{key}= has no value")
        return found[-1] if found else None


def parse(
    argv: Sequence[str], flags: Mapping[str, tuple[int, int]], examples: Mapping[str, str] = MappingProxyType({})
) -> Arguments:
    """Read a command line.

    Args:
        argv: the words after the program's name.
        flags: for each flag, the least and the greatest number of its values.
        examples: for a flag, what to type where its value is forgotten; for "OUT", where an output that is a word of
            its own is given by a flag, with {} for the word.

    Raises:
        GCPError: unknown flag (with the nearest), a flag twice or without its value, or a stray word.
    """
    arguments = Arguments()
    words = list(argv)
    while words:
        before = argv[-len(words) - 1] if len(words) < len(argv) else ""
        word = words.pop(0)
        if not word.startswith("-"):
            if "=" not in word:
                raise GCPError(
                    f"unexpected {word!r}: {_hint(before, word, words[0] if words else '', flags, arguments)}"
                )
            arguments.overrides.append(word)
            continue
        flag, equals, value = word.partition("=")
        if flag == "-h":
            flag = "--help"
        if flag not in flags and ("." in flag or flag in ("--resume", "--split")):
            typed = f"{flag.lstrip('-')}={value or (words[0] if words else 'VALUE')}"
            raise GCPError(f"unknown flag {flag!r}: a setting is given without dashes, as {typed}.")
        if flag not in flags and flag in OUTPUTS and "OUT" in examples:
            file = shlex.quote(value or (words[0] if words else "OUT"))
            raise GCPError(
                f"unknown flag {flag!r}: the output is given without one{_example(examples['OUT'].replace('{}', file))}"
            )
        if flag not in flags:
            # The dashes are alike in all of them.
            near = nearest(flag.lstrip("-"), [known.lstrip("-") for known in flags])
            meant = f" Did you mean '--{near}'?" if near else ""
            raise GCPError(f"unknown flag {flag!r}.{meant} Known: {', '.join(sorted(flags))}.")
        if flag in arguments.flags:
            raise GCPError(f"{flag} is given twice")
        least, most = flags[flag]
        values = [value] if equals else []
        while words and len(values) < most and not words[0].startswith("-") and "=" not in words[0]:
            values.append(words.pop(0))
        if not least <= len(values) <= most or "" in values:
            example = _example(examples[flag]) if least and flag in examples else ""
            raise GCPError(f"{flag} needs {'a value' if least else 'no value'}{example}")
        arguments.flags[flag] = values
    return arguments


def with_checkpoint(argv: Sequence[str]) -> list[str]:
    """A command line whose first word may be the model, as that of `gcp predict`: `MODEL` for `--checkpoint MODEL`."""
    named = argv and not argv[0].startswith("-") and "=" not in argv[0] and "--checkpoint" not in argv
    return ["--checkpoint", *argv] if named else list(argv)


def _example(text: str) -> str:
    return f". Type for example\n  {text}"


def wanted(command: str, out: str, given: Sequence[str]) -> str:
    """What to say where a command wants MODEL and FOLDER, and perhaps an output, and is given other words."""
    example = _example(f"gcp {command} {shlex.quote(given[0]) if given else 'runs/NAME'} photos")
    return f"needs MODEL and FOLDER, and perhaps {out}, got {len(given)} of them{example}\nor --help for more."


def _hint(before: str, word: str, after: str, flags: Mapping[str, tuple[int, int]], given: Arguments) -> str:
    """What to type for a stray word between two others, which are empty at the ends of the line."""
    if "--config" in flags and word.endswith((".yaml", ".yml")):
        return f"a configuration is given as --config {word}"
    if "--config" in flags and "--config" not in given.flags and _is_recipe(word):
        return f"a recipe is given as --config {word}"
    if "--config" in flags and "=" not in before and Path(word).is_dir():
        return f"a folder of images is given as data.root={shlex.quote(word)}"
    if "." in word and "/" not in word and after and "=" not in after and not after.startswith("-"):
        return f"a setting is given as key=value, here {word}={after}"
    quotes = f"; a value with spaces goes in quotes, as '{before} {word}'" if "=" in before else ""
    if "--predict" in given.flags:
        return f"a path with spaces goes in quotes, a setting is given as key=value{quotes}"
    if "--checkpoint" in given.flags and "--predict" in flags:
        return f"a folder of images is given as --predict {word}, a data set as data.root={word}{quotes}"
    if "--checkpoint" in given.flags and "--params" in flags:
        return f"a target is given as --params {word}, a setting as key=value{quotes}"
    if "--checkpoint" in flags:
        return f"a checkpoint or a run is given as --checkpoint {word}, a setting as key=value{quotes}"
    return f"a setting is given as key=value, such as optim.lr=0.05{quotes}"


def _is_recipe(word: str) -> bool:
    from gcp.config import recipes

    return word in recipes.recipes()


def numbers(flags: Flags, flag: str, default: list[int], least: int) -> list[int]:
    """Whole numbers after a flag. Raises OptionError for another word or a number below `least`."""
    words = flags.get(flag)
    if words is None:
        return default
    for word in words:
        if not (word.isascii() and word.isdigit() and int(word) >= least):
            raise OptionError(f"{flag} is {word!r}; allowed: a whole number >= {least}.")
    return [int(word) for word in words]


def answer(arguments: Arguments, usage: str, task: Task = CLASSIFIER) -> str | None:
    """The text that was asked for, None where the command is meant to work."""
    if "--help" in arguments.flags:
        from gcp.config import describe

        return f"{as_typed(usage)}\nKeys of a configuration:\n\n{describe(schema=task.schema)}"
    if "--list" in arguments.flags:
        from gcp.cli.listing import KINDS, listing

        if not (words := arguments.flags["--list"]):
            raise GCPError(f"--list needs one of {', '.join(KINDS)}. Type for example --list heads 'svd_*'")
        return listing(*words)
    return None
