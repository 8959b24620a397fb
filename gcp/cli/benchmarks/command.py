"""What the commands that measure share: a line of flags alone, rounds that take turns, the machine they ran on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from gcp.cli.arguments import parse
from gcp.cli.flags import Flags, numbers, target
from gcp.errors import GCPError, counted

MANY = 1000
ROUNDS = ("--device", "--repeats", "--warmup", "--json")


def takes(several: Iterable[str] = (), one: Iterable[str] = (), none: Iterable[str] = ()) -> dict[str, tuple[int, int]]:
    """Least and greatest number of values of each flag, those that every command has among them."""
    return {
        **dict.fromkeys(several, (1, MANY)),
        **dict.fromkeys((*one, *ROUNDS), (1, 1)),
        **dict.fromkeys((*none, "--help"), (0, 0)),
    }


def read(argv: Sequence[str], flags: Mapping[str, tuple[int, int]], usage: str, word: str = "") -> Flags | None:
    """The flags of a command line; None where it asks for help, which is printed.

    Args:
        argv: the words after the program's name.
        flags: as `takes` gives them.
        usage: the help.
        word: flag that a first word without one was meant for.

    Raises:
        GCPError: what is no flag of the command, or has too few or too many values.
    """
    if word and argv and not argv[0].startswith("-"):
        raise GCPError(f"unexpected {argv[0]!r}: {word.lstrip('-')} are given as {word} {argv[0]}; see --help.")
    arguments = parse(argv, flags)
    if arguments.overrides:
        raise GCPError(f"unexpected {arguments.overrides[0]!r}: this command takes flags only; see --help.")
    if "--help" in arguments.flags:
        print(usage)
        return None
    return arguments.flags


def common(flags: Flags, repeats: int, warmup: int) -> dict[str, Any]:
    """Settings that every command has: device, json, repeats and warmup, whose defaults are given.

    Raises:
        OptionError: a value outside what is allowed.
    """
    return {
        "device": flags.get("--device", ["cpu"])[0],
        "repeats": numbers(flags, "--repeats", [repeats], 1)[0],
        "warmup": numbers(flags, "--warmup", [warmup], 0)[0],
        "json": target(flags.get("--json", [None])[0]),
    }


def optional(flags: Flags, flag: str) -> int | None:
    """The whole number >= 1 after a flag, None where it was not given. Raises OptionError for another word."""
    return numbers(flags, flag, [1], 1)[0] if flag in flags else None


def bar(text: str = "rounds") -> Callable[[Iterable[int]], Iterable[int]]:
    """What shows on a terminal how far the rounds are."""
    from tqdm import tqdm

    return partial(tqdm, desc=text, leave=False, disable=None)


def save(path: str | None, result: Mapping[str, Any]) -> None:
    """Write the file of --json, where there is one."""
    from gcp.engine.files import write_json

    if path is not None:
        write_json(path, dict(result))


def machine(environment: Mapping[str, Any]) -> str:
    """GPU, where it was one, and processor."""
    on = "" if environment["device"] == "cpu" else f"{environment['device']}, "
    return f"{on}{environment['processor']}"


def heading(settings: Mapping[str, Any], environment: Mapping[str, Any], rows: str, columns: str) -> str:
    """Machine and meaning of the columns, above tables whose `rows` took turns; `columns` says the rest of it."""
    alone = settings["threads"] == 1 and environment["device"] == "cpu"
    clock = "processor time" if alone else "elapsed time"
    return (
        f"machine   {machine(environment)}, {environment['threads']} of {environment['cores']} threads, torch "
        f"{environment['packages']['torch']}\n"
        f"columns   medians of {counted(settings['repeats'], 'round')} in which the {rows} take turns, ms of {clock}; "
        f"{columns}"
    )
