"""Matrices that a batched eigensolver gave up on, found without waiting for the GPU.

The solver leaves one number per matrix, 0 for success. Reading them at once would stop the host until the GPU has
caught up; they travel to the host behind the computation instead and are read when a later call finds them
there. Until then nothing wrong passes for right: the eigenvalues of a failed matrix are NaN.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pending:
    """Info (B,) on its way to the host; `arrived` is true once it can be read, `wait` waits for that."""

    info: Tensor
    arrived: Callable[[], bool]
    wait: Callable[[], object]
    what: str


_pending: deque[Pending] = deque()
_lock = threading.Lock()


def watch(info: Tensor, eigenvalues: Tensor, what: str) -> None:
    """Mark failed matrices in eigenvalues (B, n), in place, and send info (B,) to the host."""
    eigenvalues.masked_fill_((info != 0)[:, None], torch.nan)
    host = torch.empty(info.shape, dtype=info.dtype, pin_memory=True)
    host.copy_(info, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(info.device))
    add(Pending(host, event.query, event.synchronize, what))


def add(pending: Pending) -> None:
    """Remember what is on its way."""
    with _lock:
        _pending.append(pending)


def check_failures(wait: bool = True) -> None:
    """Raise LinAlgError for the first batch with a failed matrix, of those whose info has arrived.

    Args:
        wait: for the GPU, so that every decomposition so far is checked.
    """
    while True:
        with _lock:
            if not _pending or not (wait or _pending[0].arrived()):
                return
            pending = _pending.popleft()
        if wait:
            pending.wait()
        failed = pending.info.nonzero().flatten().tolist()
        if failed:
            raise error(pending.what, len(pending.info), failed)


def error(what: str, batch: int, failed: list[int]) -> torch.linalg.LinAlgError:
    """The message of a failed decomposition."""
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    return torch.linalg.LinAlgError(
        f"{what}: matrix {failed[0]} of a batch of {batch}{more} was not decomposed; its entries are not finite, "
        "or the iteration did not converge"
    )
