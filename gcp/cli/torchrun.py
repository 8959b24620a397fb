"""`python -m gcp.cli.torchrun`: torchrun, whose end says what the run said.

The launcher of torch answers the fault of a process, which has told it in one message, with thirty lines of its own and
exit code 1. Here a fault of the user stays one message and exit code 2, an interrupt 130; of anything else the launcher
tells what it knows.
"""

import logging
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

TOLD = (2, 130)  # exit codes after which there is nothing to add


def _tells(record: logging.LogRecord) -> bool:
    """Whether a line of the launcher says more than that a process with a fault ended, and the others with it."""
    text = record.getMessage()
    return "failed (exitcode: 2)" not in text and "closing signal SIGTERM" not in text


def entry() -> int:
    """The launcher as a program: exit code of the process."""
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").addFilter(_tells)
    try:
        main()
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode not in TOLD:
            print(error, file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(entry())
