"""One command in several processes: one voice, one end.

Rank 0 speaks for all. When a process fails, the first to say so is heard, with its rank, and all the others end within
seconds and in silence; what they would add is that they lost a partner.
"""

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from torch.distributed import DistBackendError, DistError

from gcp.engine.distributed import Group, connect, from_environment, leave
from gcp.engine.watchdog import FAILED, Watchdog
from gcp.errors import GCPError

PARTNER = 3.0  # seconds that a process leaves to another one whose failure may be the cause of its own


@contextmanager
def joined() -> Iterator[Group]:
    """The processes of this command, and their common end."""
    group = from_environment()
    store = connect(group)
    if store is None:
        yield group
        return
    watchdog = Watchdog(store, group.rank, group.world)
    watchdog.start()
    if not group.main:
        _be_silent()
    try:
        yield replace(group, store=store, watchdog=watchdog)
        watchdog.stop()  # before the first of them ends, and perhaps the store with it
        leave()
    except BaseException as error:
        _fail(watchdog, group, error)


def _first(watchdog: Watchdog) -> bool:
    try:
        return watchdog.claim()
    except (RuntimeError, DistError):  # the store has ended with the process that held it
        return False


def log_to(path: Path) -> None:
    """Let a process that is not rank 0 write its log and its output into a file."""
    file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 (open until the process ends)
    sys.stdout = file
    logging.basicConfig(level=logging.INFO, stream=file, format="%(asctime)s %(message)s", force=True)
    logging.disable(logging.NOTSET)


def _be_silent() -> None:
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def _fail(watchdog: Watchdog, group: Group, error: BaseException) -> NoReturn:
    """Raise `error` with its rank, if it is the first of the run; else end this process."""
    if not isinstance(error, GCPError | KeyboardInterrupt):
        # Perhaps the exchange failed because a partner did, who needs a moment to say why.
        watchdog.expect_end(PARTNER)
    if not _first(watchdog):
        time.sleep(PARTNER)
        os._exit(FAILED)
    text = str(error).partition("\n")[0]
    if "closed by peer" in text or "reset by peer" in text or isinstance(error, DistBackendError):
        error = GCPError(f"another process has ended without a word, killed perhaps ({text})")
    if isinstance(error, GCPError):
        raise GCPError(f"rank {group.rank} of {group.world}: {error}") from error
    os.write(2, f"rank {group.rank} of {group.world} failed:\n".encode())
    raise error
