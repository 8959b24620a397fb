"""Launching a kernel of `heads.cu` through CuPy: torch's memory, torch's stream, the device of the tensors.

CuPy is imported on the first launch; without it, or without a driver that it can use, `available` says no and
the torch twins compute. Its stream and device belong to a thread, and autograd's backward runs in another one:
both are set anew for every launch.
"""

import logging
import os
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gcp.command import install
from gcp.kernels.source import INT, POINTER, ROWS, TILE, Kernel, blocks, expressions, text

log = logging.getLogger("gcp")
REAL_NAMES = {torch.float32: "float", torch.float64: "double"}
OPTIONS = ("--std=c++17",)
VARIABLE = "GCP_KERNELS"  # "off" for the torch twins


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether CuPy can use the GPU and compile for it; says once why not."""
    if os.environ.get(VARIABLE, "on") == "off":
        log.info("CUDA kernels are off (%s=off), torch operations take their place", VARIABLE)
        return False
    try:
        import cupy

        reason = "" if cupy.cuda.is_available() else "CuPy finds no driver that it can use"
        if not reason:
            cupy.cuda.nvrtc.getVersion()
    except ImportError as error:
        reason = f"CuPy cannot be imported ({error}); {install('cuda')}"
    except RuntimeError as error:  # NVRTC of another CUDA than CuPy's, as a torch for another CUDA brings it
        reason = f"CuPy cannot load its CUDA libraries ({error}); install the CuPy for CUDA {torch.version.cuda}"
    if reason:
        log.warning("CUDA kernels are off, torch operations take their place: %s", reason)
    return not reason


@lru_cache(maxsize=1)
def _module() -> Any:
    """Compiled by NVRTC for the device of the first use of a function, and cached on disk by CuPy."""
    import cupy

    return cupy.RawModule(code=text(), options=OPTIONS, name_expressions=expressions())


@lru_cache(maxsize=128)
def _function(expression: str, device: int) -> Any:
    return _module().get_function(expression)  # loaded into the context of the current device


def on_stream_of(tensor: Tensor) -> Any:
    """CuPy's device and stream set to those that torch uses for a CUDA tensor; a context manager."""
    from contextlib import ExitStack

    import cupy

    stream = torch.cuda.current_stream(tensor.device)
    stack = ExitStack()
    stack.enter_context(torch.cuda.device(tensor.device))
    stack.enter_context(cupy.cuda.Device(tensor.device.index))
    if hasattr(stream, "__cuda_stream__") and hasattr(cupy.cuda.Stream, "from_external"):
        stack.enter_context(cupy.cuda.Stream.from_external(stream))
    else:  # torch 2.8, CuPy 13
        stack.enter_context(cupy.cuda.ExternalStream(stream.cuda_stream, tensor.device.index))
    return stack


def typed(kernel: Kernel, types: tuple[str, str], arguments: tuple[Any, ...]) -> list[Any]:
    """Arguments as NumPy scalars of the exact width that the kernel declares; CuPy does not check them."""
    import numpy

    real = numpy.float32 if kernel.real(types) == "float" else numpy.float64
    scalars: list[Any] = []
    for (_, kind), value in zip(kernel.arguments, arguments, strict=True):
        if kind == POINTER:
            scalars.append(numpy.uint64(value.data_ptr()))
        else:
            scalars.append(numpy.int32(value) if kind == INT else real(value))
    return scalars


def launch(kernel: Kernel, types: tuple[str, str], n: int, batch: int, arguments: tuple[Any, ...]) -> None:
    """Run an instantiation on `batch` matrices n x n; tensors among the arguments are dense and on one device."""
    if batch == 0:
        return
    first = next(value for value in arguments if isinstance(value, Tensor))
    with on_stream_of(first):
        function = _function(kernel.expression(types), first.device.index)
        function(blocks(kernel, n, batch), (TILE, ROWS), tuple(typed(kernel, types, arguments)))
