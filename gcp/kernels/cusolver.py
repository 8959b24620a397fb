"""cuSOLVER's batched eigensolver by ctypes, on torch's memory and stream.

`cusolverDnXsyevBatched` (cuSOLVER 11.7.1, CUDA 12.6 update 2) overwrites symmetric matrices with their eigenvectors.
It is column-major: on row-major memory the *rows* are the eigenvectors.
"""

import ctypes
import threading
from ctypes import POINTER, byref, c_int, c_int64, c_size_t, c_void_p
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

SONAMES = {"12": "libcusolver.so.11", "13": "libcusolver.so.12"}  # by the major version of CUDA
VECTORS, UPPER = 1, 1  # cusolverEigMode_t, cublasFillMode_t; upper by columns is lower by rows, as torch reads
CUDA_TYPE = {torch.float32: 0, torch.float64: 1}  # cudaDataType
MOST_ENTRIES = 2**31 - 1  # of one call: n * n * batch

_COMMON = [c_void_p, c_void_p, c_int, c_int, c_int64, c_int, c_void_p, c_int64, c_int, c_void_p, c_int]
PROTOTYPES = {
    "cusolverDnCreate": [POINTER(c_void_p)],
    "cusolverDnCreateParams": [POINTER(c_void_p)],
    "cusolverDnSetStream": [c_void_p, c_void_p],
    "cusolverDnXsyevBatched_bufferSize": [*_COMMON, POINTER(c_size_t), POINTER(c_size_t), c_int64],
    "cusolverDnXsyevBatched": [*_COMMON, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_int64],
}
_local = threading.local()


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The library with typed functions; None where there is none, or it is too old."""
    name = SONAMES.get((torch.version.cuda or "").split(".")[0])
    # torch loads its own copy at its first decomposition, and would then get one that came in by its name before
    for place in [*_beside_torch(name), name] if name else []:
        try:
            loaded = ctypes.CDLL(place)
            for function, arguments in PROTOTYPES.items():
                getattr(loaded, function).argtypes = arguments
                getattr(loaded, function).restype = c_int
        except (OSError, AttributeError):
            continue
        return loaded
    return None


def _beside_torch(name: str) -> list[str]:
    """The library among NVIDIA's wheels, which torch brings."""
    spec = find_spec("nvidia")
    roots = spec.submodule_search_locations if spec is not None else None
    return [str(path) for root in roots or () for path in Path(root).glob(f"*/lib/{name}")]


def _call(function: str, *arguments: object) -> None:
    loaded = library()
    assert loaded is not None
    status = getattr(loaded, function)(*arguments)
    if status != 0:
        raise RuntimeError(f"{function} failed with status {status}")


def _handle(device: torch.device) -> tuple[c_void_p, c_void_p]:
    """Handle and parameters of this thread on this device, on torch's current stream."""
    handles = _local.__dict__.setdefault("handles", {})
    if device.index not in handles:
        handle, parameters = c_void_p(), c_void_p()
        _call("cusolverDnCreate", byref(handle))
        _call("cusolverDnCreateParams", byref(parameters))
        handles[device.index] = handle, parameters
    handle, parameters = handles[device.index]
    _call("cusolverDnSetStream", handle, torch.cuda.current_stream(device).cuda_stream)
    return handle, parameters


def _host_workspace(device: torch.device, size: int) -> ctypes.Array[ctypes.c_char]:
    """Memory of the host that stays with the handle: the solver may still read it when its call has returned."""
    workspaces = _local.__dict__.setdefault("workspaces", {}).setdefault(device.index, [])
    if not workspaces or len(workspaces[-1]) < size:
        workspaces.append(ctypes.create_string_buffer(max(1, size)))  # a smaller one may be in use, and stays too
    found: ctypes.Array[ctypes.c_char] = workspaces[-1]
    return found


def decompose(P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ascending eigenvalues (B, n), eigenvectors as rows (B, n, n) and info (B,) int32, all on the device of P."""
    batch, n = P.shape[:2]
    rows = P.clone(memory_format=torch.contiguous_format)
    eigenvalues = P.new_empty(batch, n)
    info = P.new_zeros(batch, dtype=torch.int32)
    with torch.cuda.device(P.device):
        for part in chunks(n, batch):
            _decompose(rows[part], eigenvalues[part], info[part])
    # what the solver says of inf and NaN is its own affair, and need not be a failure
    return eigenvalues, rows, info.masked_fill_(~P.sum((1, 2)).isfinite(), 1)


def chunks(n: int, batch: int) -> list[slice]:
    """Parts of a batch that one call takes."""
    step = max(1, MOST_ENTRIES // (n * n))
    return [slice(start, min(start + step, batch)) for start in range(0, batch, step)]


def _decompose(A: Tensor, eigenvalues: Tensor, info: Tensor) -> None:
    handle, parameters = _handle(A.device)
    n, kind = A.shape[1], CUDA_TYPE[A.dtype]
    what = (handle, parameters, VECTORS, UPPER, n, kind, A.data_ptr(), n, kind, eigenvalues.data_ptr(), kind)
    on_device, on_host = c_size_t(), c_size_t()
    _call("cusolverDnXsyevBatched_bufferSize", *what, byref(on_device), byref(on_host), len(A))
    # older versions read the workspace before they write it
    workspace = torch.zeros(on_device.value, dtype=torch.uint8, device=A.device)
    host = _host_workspace(A.device, on_host.value)
    buffers = (workspace.data_ptr(), on_device.value, ctypes.addressof(host), on_host.value)
    _call("cusolverDnXsyevBatched", *what, *buffers, info.data_ptr(), len(A))
