"""`python -m gcp.cli.torchrun`: torchrun with the messages and exit codes of the command that it launches.

Where a process ends with an error, torchrun adds thirty lines to its message and exits with code 1. Here a fault of the
user stays one message with exit code 2, and an interrupt has exit code 130; any other failure is reported by torchrun.
"""

import logging
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

REPORTED = (2, 130)  # exit codes of processes that have printed their message


def _is_informative(record: logging.LogRecord) -> bool:
    """Whether a line of torchrun says more than that a process has failed and the others are ended."""
    text = record.getMessage()
    return not any(part in text for part in ("failed (exitcode: 2)", "closing signal SIGTERM", "no error file defined"))


def entry() -> int:
    """The launcher as a program: exit code of the process."""
    for name in ("api", "errors.error_handler"):
        logging.getLogger(f"torch.distributed.elastic.multiprocessing.{name}").addFilter(_is_informative)
    try:
        main()
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode not in REPORTED:
            print(error, file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(entry())
