"""What to type for a command, in the form in which this program was called.

| called as | advice on `train` |
|---|---|
| `gcp evaluate ...`, or from a program of the user's | `gcp train` |
| `python -m gcp evaluate ...` | `python -m gcp train` |
| `gcp-train ...` | `gcp-train` |
| `python train.py ...`, `python ../suite/scripts/ablate.py ...` | `python train.py`, `python ../suite/train.py` |
| `torchrun ... train.py` | `torchrun --nproc-per-node=N train.py` |
| `bash scripts/train.sh ...` | `bash scripts/train.sh` |
"""

import json
import os
import re
import shlex
import sys
import time
from contextlib import suppress
from importlib.metadata import Distribution
from pathlib import Path, PurePath
from typing import Any, TextIO

# Command -> the script that is its alias in a checkout.
SCRIPTS = {
    "train": "train.py",
    "evaluate": "evaluate.py",
    "train-glow": "scripts/train_glow.py",
    "evaluate-glow": "scripts/evaluate_glow.py",
    "ablate": "scripts/ablate.py",
    "report": "scripts/report.py",
    "fidelity": "scripts/fidelity.py",
    "compress": "scripts/compress.py",
    "convert": "scripts/convert_checkpoint.py",
    "export": "scripts/export.py",
    "check": "scripts/check_dataset.py",
    "webdataset-info": "scripts/webdataset_info.py",
    "list": "train.py --list",
}
UNALIASED = ("predict", "embed", "demo", "doctor", "gpu-report")  # commands without such a script
PROGRAMS = {"train": "gcp-train", "evaluate": "gcp-evaluate"}
DISTRIBUTED = ("train", "evaluate", "train-glow", "evaluate-glow")
LAUNCHER = "GCP_TRAIN"  # set by a bash script that starts train.py: what the user typed in its place

# Orders to a terminal, such as colours, and what turns the direction of reading round. `[K`, which
# clears a line, is our own.
_ORDERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\x1b(?!\[K)")
_CANONICAL = re.compile(rf"(?<!-m )\bgcp ({'|'.join(sorted([*SCRIPTS, *UNALIASED], key=len, reverse=True))})(?![\w-])")


def typed(command: str, *words: object) -> str:
    """The command line for `command` and its words, which are quoted for a shell; for example
    `typed("train", "resume=runs/x")`.
    """
    return " ".join([_program(command), *(shlex.quote(str(word)) for word in words)])


def as_typed(text: str) -> str:
    """`text` with every `gcp COMMAND` in it replaced by what to type for that command."""
    return _CANONICAL.sub(lambda found: _program(found[1]), text)


def visible(text: str) -> str:
    """`text` with escape sequences in the place of what a terminal would obey."""
    return _ORDERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Printable:
    """A text stream, to a terminal or to a log that is read on one, that shows as an escape sequence what a terminal
    would obey, perhaps in the name of a class.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(visible(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def tell_launcher(message: str) -> None:
    """Give torchrun the message of a fault, so that its report, which nothing can keep it from, ends with it."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        with suppress(OSError):
            Path(path).write_text(
                json.dumps({"message": {"message": message, "extraInfo": {"timestamp": time.time()}}})
            )


def install(extra: str) -> str:
    """What to type for the packages of an extra, such as `export`: in a checkout that is not installed, there."""
    installed = any(True for _ in Distribution.discover(name="gcp-suite"))
    return f"pip install '{'gcp-suite' if installed else '.'}[{extra}]'"


def _program(command: str) -> str:
    if command == "train" and os.environ.get(LAUNCHER):
        return os.environ[LAUNCHER]
    called = PurePath(sys.argv[0] if sys.argv else "")
    parallel = "TORCHELASTIC_RUN_ID" in os.environ and command in DISTRIBUTED
    python = f"torchrun --nproc-per-node={os.environ.get('LOCAL_WORLD_SIZE', 'N')}" if parallel else "python"
    if called.parts[-2:] == ("gcp", "__main__.py"):
        return f"{python} -m gcp {command}"
    if called.name in PROGRAMS.values() and command in PROGRAMS:
        return PROGRAMS[command]
    folder = _checkout(called)
    if folder is None or command not in SCRIPTS:
        return f"gcp {command}"
    return f"{python} {shlex.quote(f'{folder}/') if folder.parts else ''}{SCRIPTS[command]}"


def _checkout(called: PurePath) -> PurePath | None:
    """The folder of the scripts, as seen from the working folder; None where none of them was called."""
    for script in (PurePath(words.split()[0]) for words in SCRIPTS.values()):
        if called.name == script.name:
            within = len(script.parts) - 1  # folders between the script and the checkout
            if called.parts[-1 - within :] == script.parts:
                return called.parents[within]
            if called.parent == PurePath() and within:  # called in the folder of the scripts
                return PurePath("..")
    return None
