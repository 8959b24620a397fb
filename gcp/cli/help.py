"""The flags `--help` and `--list` of the commands that take a configuration."""

from gcp.cli.arguments import Arguments
from gcp.cli.listing import KINDS, listing
from gcp.command import as_typed
from gcp.errors import GCPError
from gcp.runs.task import CLASSIFIER, Task

FLAGS = {"--list": (0, 2), "--help": (0, 0)}
LIST = f"--list {'|'.join(KINDS)} [pattern]"


def answer(arguments: Arguments, usage: str, task: Task = CLASSIFIER) -> str | None:
    """The text that was asked for, None where the command is meant to work."""
    if "--help" in arguments.flags:
        from gcp.config import describe

        return f"{as_typed(usage)}\nKeys of a configuration:\n\n{describe(schema=task.schema)}"
    if "--list" in arguments.flags:
        if not (words := arguments.flags["--list"]):
            raise GCPError(f"--list needs one of {', '.join(KINDS)}. Type for example --list heads 'svd_*'")
        return listing(*words)
    return None
