"""Which library decomposes a batch of symmetric matrices.

Before torch 2.12 `torch.linalg.eigh` decomposes the matrices of a batch on CUDA one after the other; from then on,
with CUDA 12.8, it calls cuSOLVER's batched routine itself. Up to 32 rows it has always been batched.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch

from gcp.errors import OptionError, suggest

log = logging.getLogger("gcp")
VARIABLE = "GCP_EIGENSOLVER"
BACKENDS = {
    "torch": "torch.linalg.eigh",
    "cusolver": "cusolverDnXsyevBatched on torch's memory",
    "cupy": "cupy.linalg.eigh, a batched Jacobi method",
}
BATCHED_TORCH, BATCHED_CUDA = (2, 12), (12, 8)
SMALL = 32  # rows that torch decomposes in one launch
_override: list[str] = []


def check_backend(name: str) -> str:
    """The name itself; raises OptionError unless it is `auto` or one of BACKENDS."""
    if name != "auto" and name not in BACKENDS:
        allowed = ("auto", *BACKENDS)
        raise OptionError(f"the eigensolver is {name!r}; allowed: {', '.join(allowed)}.{suggest(name, allowed)}")
    return name


@contextmanager
def use_eigensolver(name: str) -> Iterator[None]:
    """Every decomposition on CUDA inside the block uses this backend, in all threads; `auto` chooses."""
    _override.append(check_backend(name))
    try:
        yield
    finally:
        _override.pop()


def wanted(name: str | None) -> str:
    """The backend asked for: by argument, by the innermost `use_eigensolver`, by the environment; or `auto`."""
    if name is None and _override:
        return _override[-1]
    return check_backend(name or os.environ.get(VARIABLE) or "auto")


def decide(
    name: str,
    n: int,
    batch: int,
    has: Callable[[str], bool],
    torch_version: tuple[int, ...],
    cuda_version: tuple[int, ...],
) -> str:
    """The backend for `batch` matrices n x n on CUDA.

    Args:
        name: `auto`, or the backend to take.
        n: rows of a matrix.
        batch: matrices.
        has: whether the library of a backend can be loaded; asked only where it matters.
        torch_version: of torch, at least (major, minor).
        cuda_version: that torch was built for.

    Raises:
        OptionError: the backend asked for cannot be taken.
    """
    if name != "auto":
        if not has(name):
            raise OptionError(f"the eigensolver {name!r} ({BACKENDS[name]}) cannot be loaded here; type auto or torch.")
        return name
    if n <= SMALL or batch <= 1:
        return "torch"
    if torch_version >= BATCHED_TORCH and cuda_version >= BATCHED_CUDA:
        return "torch"
    return next((backend for backend in ("cusolver", "cupy") if has(backend)), "torch")


def version(text: str | None) -> tuple[int, int]:
    """(major, minor) of a version such as 2.12.0a0+cu130."""
    major, minor = (text or "0.0").split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def has_backend(name: str) -> bool:
    """Whether the library of a backend can be loaded."""
    if name == "cusolver":
        from gcp.kernels import cusolver

        return cusolver.library() is not None
    if name == "cupy":
        from gcp.kernels.launch import available

        return available()
    return True


def choose_backend(name: str | None, n: int, batch: int) -> str:
    """The backend for a batch on the CUDA device of this process; a choice is logged the first time."""
    asked = wanted(name)
    chosen = decide(asked, n, batch, has_backend, version(torch.__version__), version(torch.version.cuda))
    if n > SMALL and batch > 1:
        _log_once(asked, chosen)
    return chosen


@lru_cache(maxsize=32)
def _log_once(asked: str, chosen: str) -> None:
    log.info(
        "batched eigendecomposition on CUDA: %s (%s; torch %s, CUDA %s; another one by %s=%s)",
        BACKENDS[chosen],
        "chosen" if asked == "auto" else "as asked",
        torch.__version__,
        torch.version.cuda,
        VARIABLE,
        "|".join(BACKENDS),
    )
