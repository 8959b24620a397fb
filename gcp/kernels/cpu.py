"""Threads of the CPU: a batch of decompositions shared among them, and their number, without a trace in the process.

A second thread takes a sixth off one matrix of 256 rows, and torch decomposes a batch one matrix after the other. Here
each thread of a pool decomposes its part of the batch alone: 1.6 times faster on two idle cores, and several times on
busy ones, where the threads of one matrix wait for each other.

Numbers of threads are set through OpenMP, for one thread at a time. `torch.set_num_threads` would also fix the number
of MKL's threads for the whole process, for good, and with two or more of them the LU factorisation of a batch
(`torch.linalg.solve` of 160 rows, MKL of torch 2.14) then prints errors and never returns.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor


def set_threads(count: int) -> None:
    """Let torch compute with `count` threads in this thread of the process, MKL's own settings left alone."""
    torch.get_num_threads()  # torch sets a thread's number at its first look, and must not do so later
    set_openmp = _setter("omp_set_num_threads")
    if set_openmp is not None:
        set_openmp(count)
    if torch.get_num_threads() != count:  # another threading library than OpenMP
        torch.set_num_threads(count)


@lru_cache(maxsize=2)
def _setter(name: str) -> Callable[[int], object] | None:
    """A C function of torch's threading libraries that takes a number; None where they have none of this name."""
    for library in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        try:
            function = getattr(ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / library)), name)
        except (OSError, AttributeError):
            continue
        function.argtypes = [ctypes.c_int]
        return function
    return None


def can_share(P: Tensor) -> bool:
    """Whether `shared_eigh` takes this tensor: autograd does not record it, for modes of torch do not reach into other
    threads, and their numbers of threads can be set.
    """
    return _setter("omp_set_num_threads") is not None and not (P.requires_grad and torch.is_grad_enabled())


def shared_eigh(P: Tensor, workers: int) -> tuple[Tensor, Tensor]:
    """As `torch.linalg.eigh` of matrices (B, n, n), to the last bits that LAPACK leaves to the number of threads."""
    batch, n = P.shape[:2]
    eigenvalues, columns = P.new_empty(batch, n), P.new_empty(batch, n, n).mT

    # a thread of the pool does not know the mode of the caller, whose tensors it fills
    mode = torch.inference_mode if eigenvalues.is_inference() else torch.no_grad

    def decompose(part: slice) -> None:
        with mode():
            torch.linalg.eigh(P[part], out=(eigenvalues[part], columns[part]))

    edges = [batch * i // workers for i in range(workers + 1)]
    try:
        list(_pool(workers).map(decompose, map(slice, edges[:-1], edges[1:])))
    except torch.linalg.LinAlgError:
        return torch.linalg.eigh(P)  # which names the matrix by its index in the batch
    return eigenvalues, columns


@lru_cache(maxsize=1)
def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads that stay, each with one thread for itself: a team of its own makes every later decomposition slower."""
    _forget_in_children()
    return ThreadPoolExecutor(workers, "gcp-eigh", initializer=_work_alone)


def _work_alone() -> None:
    set_threads(1)
    set_mkl = _setter("MKL_Set_Num_Threads_Local")  # of this thread; a `torch.set_num_threads` of the user's reached it
    if set_mkl is not None:
        set_mkl(1)


@lru_cache(maxsize=1)
def _forget_in_children() -> None:
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has the pool, and none of its threads
