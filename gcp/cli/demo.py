"""`gcp demo MODEL [--port N] [--host ADDRESS] [--examples FOLDER] [key=value ...]`: a page in the browser."""

import logging
from tempfile import TemporaryDirectory

from gcp.cli.arguments import parse
from gcp.cli.train import check_overrides
from gcp.command import as_typed
from gcp.errors import GCPError, OptionError

FLAGS = {"--port": (1, 1), "--host": (1, 1), "--examples": (1, 1)}
ALLOWED = ("data.", "evaluate.", "run.")
LAST_PORT = 65535

USAGE = """\
A page in the browser: drop an image, and see its classes, where the model looks, and the spectrum of its covariance.

  gcp demo MODEL [--port N] [--host ADDRESS] [--examples FOLDER]

  MODEL    a run folder or its name under runs/, a checkpoint, a folder that was shared, hf-hub:USER/NAME

  --port N            default: the first free port from 7860 on
  --host ADDRESS      default: 127.0.0.1, reachable from this machine only; 0.0.0.0 serves the page to the network
  --examples FOLDER   example images on the page; default: some test images of the data set, if it is available

Needs the package gradio (pip install 'gcp-suite[demo]'). Nothing is sent to other machines. Settings of data.*, run.*.

Example:
  gcp demo runs/mine --examples photos
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    if not argv or {"-h", "--help"} & set(argv):
        print(as_typed(USAGE))
        return 0
    if argv[0].startswith("-") or "=" in argv[0]:
        raise GCPError(f"unexpected {argv[0]!r}: the model comes first, as in gcp demo runs/mine; see gcp demo --help.")
    arguments = parse(argv[1:], FLAGS)
    check_overrides(arguments.overrides, ALLOWED, "a demo")
    port = _port(arguments.value("--port"))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from gcp.evaluation.page import create_page, examples_of, find_gradio, serve

    find_gradio()  # before seconds are spent on the model
    from gcp.engine.distributed import ALONE
    from gcp.runs.open_model import open_model
    from gcp.runs.trained import classifier_of

    found = open_model(argv[0], arguments.overrides, ALONE, scored=False)
    with TemporaryDirectory() as folder:
        examples = examples_of(found, arguments.value("--examples"), folder)
        trained = classifier_of(found)
        about = (
            f"{found.given}: {trained.num_classes} classes, images of {found.image_size} x {found.image_size} pixels"
        )
        page = create_page(trained, f"{found.backbone} + {found.head}", about, examples)
        serve(page, arguments.value("--host") or "127.0.0.1", port)
    return 0


def _port(word: str | None) -> int | None:
    if word is None:
        return None
    if not (word.isascii() and word.isdigit() and 1 <= int(word) <= LAST_PORT):
        raise OptionError(f"--port is {word!r}; allowed: a whole number from 1 to {LAST_PORT}.")
    return int(word)
