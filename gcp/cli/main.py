"""How a command ends: a fault of the user is one line on stderr and exit code 2, without a traceback."""

import os
import sys
from collections.abc import Callable, Sequence

from gcp.errors import user_message


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
        message = user_message(error)
        if message is None:
            raise
        sys.stdout.flush()
        print(f"error: {message}", file=sys.stderr)
        return 2
