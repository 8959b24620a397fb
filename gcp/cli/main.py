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
    except GCPError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe left; keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        return _fail(str(error))
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; not imported here to keep --help quick
            raise
        reason = str(error).split(". ")[0]
        return _fail(f"{reason}. Lower train.batch_size (and raise train.accumulate) or data.image_size.")


def _fail(message: str) -> int:
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr)
    return 2
