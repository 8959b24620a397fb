"""The batched decomposition on the CPU: matrices per thread, not threads per matrix.

A second thread takes a sixth off one matrix of 256 rows, and torch decomposes a batch one matrix after the other. Here
each thread of a pool decomposes its part of the batch alone: 1.6 times faster on two cores, in less processor time.

The threads of the pool stay, and keep to one thread each: a thread that starts a team of its own makes every
later decomposition several times slower.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier

import torch
from torch import Tensor

LEAST_WORK = 4_000_000  # n^3 summed over the batch; a head of a 7x7 map gains from a batch of 64 and loses 6 % at 16


def eigh(P: Tensor) -> tuple[Tensor, Tensor]:
    """As `torch.linalg.eigh` of matrices (B, n, n), to the last bits that LAPACK leaves to the number of threads."""
    if not _plain(P):
        return torch.linalg.eigh(P)
    workers = torch.get_num_threads()
    batch, n = P.shape[:2]
    if workers == 1 or batch < workers or batch * n**3 < LEAST_WORK:
        return torch.linalg.eigh(P)
    eigenvalues, columns = P.new_empty(batch, n), P.new_empty(batch, n, n).mT

    def decompose(part: slice) -> None:
        with torch.no_grad():
            torch.linalg.eigh(P[part], out=(eigenvalues[part], columns[part]))

    edges = [batch * i // workers for i in range(workers + 1)]
    try:
        list(_pool(workers).map(decompose, map(slice, edges[:-1], edges[1:])))
    except torch.linalg.LinAlgError:
        return torch.linalg.eigh(P)  # which names the matrix by its index in the batch
    return eigenvalues, columns


def _plain(P: Tensor) -> bool:
    """Not traced, not watched by autograd, no subclass: modes of torch do not reach into other threads."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(P) is not Tensor:
        return False
    return not (P.requires_grad and torch.is_grad_enabled())


@lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    started = Barrier(workers)

    def start(_: int) -> None:
        torch.get_num_threads()  # a new thread takes over torch's number at its first look, and must not do so later
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(workers, "gcp-eigh")
    list(pool.map(start, range(workers)))
    torch.set_num_threads(workers)  # the last call is also what new threads begin with
    _forget_in_children()
    return pool


@lru_cache(maxsize=1)
def _forget_in_children() -> None:
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has the pool, and none of its threads
