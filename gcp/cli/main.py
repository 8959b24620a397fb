"""How a command ends: a fault of the user is one line on stderr and exit code 2, without a traceback."""

import errno
import os
import sys
from collections.abc import Callable, Sequence

from gcp.errors import GCPError

# the machine, not this program, refuses: no space, quota, read-only, no permission
REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def run(function: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Call a command with its arguments and return the exit code of the process.

    0 done; 2 a fault of the input (printed as `error: ...`); 130 interrupted. Any other exception is a defect of
    this program and keeps its traceback.
    """
    try:
        code = function(list(sys.argv[1:] if argv is None else argv)) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe left; keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = fault(error)
        if message is None:
            raise
        sys.stdout.flush()
        print(f"error: {message}", file=sys.stderr)
        return 2


def fault(error: BaseException) -> str | None:
    """What to tell the user of an error that is not a defect of this program; None of one that is."""
    if isinstance(error, GCPError) or (isinstance(error, OSError) and error.errno in REFUSALS):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError":  # torch's; not imported here to keep --help quick
        reason = str(error).split(". ")[0]
        return f"{reason}. Lower train.batch_size (and raise train.accumulate) or data.image_size."
    return None
