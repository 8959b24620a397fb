"""`gcp COMMAND ...`, and how a command ends: a fault of the user is one message on stderr and exit code 2."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import PurePath

from gcp.command import SCRIPTS, Printable, tell_launcher
from gcp.errors import GCPError, UnknownNameError, suggest, user_message

# Command -> its module, which is imported when the command is called, and what it does.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("train", "train a classifier from a recipe, or continue a run"),
    "evaluate": ("evaluate", "score a model, compare two, or show where one looks"),
    "predict": ("predict", "classes of the images in a folder"),
    "embed": ("embed", "descriptors of the images in a folder"),
    "demo": ("demo", "a page in the browser: drop an image, see its classes"),
    "ablate": ("ablate", "compare heads or settings by a grid of runs"),
    "report": ("report", "the report of such a study"),
    "fidelity": ("fidelity", "gradients of the heads against the exact one"),
    "compress": ("compress", "make a trained model smaller by low-rank factors"),
    "export": ("export", "a trained model as ONNX, torch.export or TorchScript"),
    "convert": ("convert", "weights of other projects into files of ours, and back"),
    "check": ("check_dataset", "what a data set holds, and what is wrong with it"),
    "webdataset-info": ("webdataset_info", "write the info file of WebDataset shards"),
    "train-glow": ("train_glow", "train a normalising flow"),
    "evaluate-glow": ("evaluate_glow", "score a flow, draw samples"),
    "doctor": ("doctor", "what this machine has, and a test of every head on it"),
    "gpu-report": ("gpu_report", "tests and figures of an NVIDIA GPU, from a checkout"),
    "list": ("listing", "the recipes, studies, heads, rules, backbones, loggers, ..."),
}


def usage() -> str:
    """The text of `gcp --help`."""
    lines = "\n".join(f"  {name:<17}{summary}" for name, (_, summary) in COMMANDS.items())
    return f"""\
Global covariance pooling: train and compare image classifiers.

  gcp COMMAND ...  (or python -m gcp)      gcp COMMAND --help      gcp --version

{lines}

Example, a minute on two cores: gcp train --config digits/resnet
"""


def gcp(argv: list[str]) -> int | None:
    """The command that has all others below it. Returns the exit code; faults are raised as GCPError."""
    first, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if first == "help" and rest:
        first, rest = rest[0], ["--help"]
    if first in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if first in ("-V", "--version"):
        print(f"gcp {import_module('gcp').__version__}")
        return 0
    if first.startswith("-") or "=" in first:
        meant = suggest(first, ("--version", "--help"), 0.75)
        raise GCPError(f"unexpected {first!r}: the command comes first, such as gcp train; --help lists them.{meant}")
    return find(first)(rest)


def find(name: str) -> Callable[[list[str]], int | None]:
    """The function of a command.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in COMMANDS:
        scripts = {PurePath(script).stem: command for command, script in SCRIPTS.items()}
        raise UnknownNameError("command", name, COMMANDS, scripts.get(name))
    function: Callable[[list[str]], int | None] = import_module(f"gcp.cli.{COMMANDS[name][0]}").main
    return function


def entry(name: str | None = None) -> int:
    """A program: `gcp`, or the alias of one of its commands. Returns the exit code of the process."""
    return run(gcp if name is None else find(name))


train, evaluate = partial(entry, "train"), partial(entry, "evaluate")  # the programs gcp-train and gcp-evaluate


def run(function: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Call a command with its arguments and return the exit code of the process.

    0 done; 2 a fault of the input (printed as `error: ...`); 3 done, but images that cannot be read were left out
    (predict, embed); 130 interrupted. Any other exception is a defect of this program and keeps its traceback.
    """
    # the names of classes, files and layers that a command prints come from elsewhere
    with redirect_stdout(Printable(sys.stdout)), redirect_stderr(Printable(sys.stderr)):  # type: ignore[type-var]
        return _run(function, list(sys.argv[1:] if argv is None else argv))


def _run(function: Callable[[list[str]], int | None], argv: list[str]) -> int:
    try:
        code = function(argv) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe left; keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        sys.stdout.flush()
        print(f"error: {message}", file=sys.stderr)
        tell_launcher(message)
        return 2
