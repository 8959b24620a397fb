"""Kernels of `heads.cu`: their table, their launch through CuPy, and the torch operators that stand for them.

A launch uses torch's memory, torch's stream and the device of the tensors. CuPy is imported on the first one; without
it, or without a driver that it can use, `available` says no and the torch operations that an operator falls back on
compute. CuPy's stream and device belong to a thread, and autograd's backward runs in another one: both are set anew for
every launch.

An operator is opaque to the compiler, so `torch.compile(fullgraph=True)` passes through it on every device; on
tensors of the CPU the callers do not use it, for the plain torch operations are what the compiler can fuse.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.library import CustomOpDef, custom_op

from gcp.command import install
from gcp.functions import FUNCTIONS
from gcp.gradients import RULES
from gcp.ops.numerics import refuse

# ---- What heads.cu holds ----

TILE, ROWS = 32, 8  # as in heads.cu
MOST_BLOCKS = 65535  # along the second axis of a grid
REALS = ("float", "double")
FUNCTORS = tuple(dict.fromkeys(entry.obj.kernel for entry in RULES.list() if entry.obj.kernel is not None))
ROOT = "Sqrt"
FUNCTION_FUNCTORS = tuple(entry.obj.kernel for entry in FUNCTIONS.list() if entry.obj.kernel is not None)


def _pairs() -> Iterator[tuple[str, str]]:
    for function in FUNCTIONS.list():
        for rule in RULES.list():
            names = function.obj.kernel, rule.obj.kernel
            if names[0] is not None and names[1] is not None and rule.obj.has_function(str(function)):
                yield names[0], names[1]


PAIRS = tuple(dict.fromkeys(_pairs()))  # functors of a function, and of a rule that has it
Types = tuple[str, ...]
POINTER, REAL, INT = "pointer", "real", "int"  # "real" is the last type of the instantiation that is a REALS


@dataclass(frozen=True)
class Kernel:
    """A kernel template: arguments in their order, and the types that it is compiled for."""

    name: str
    arguments: tuple[tuple[str, str], ...]
    instances: tuple[Types, ...]

    def expression(self, types: Types) -> str:
        """Name of an instantiation, as NVRTC and C++ write it."""
        return f"{self.name}<{', '.join(types)}>"

    def real(self, types: Types) -> str:
        """C++ type of its REAL argument."""
        return [name for name in types if name in REALS][-1]


SPECTRAL_CORE = Kernel(
    "spectral_core",
    (
        ("kept", POINTER),
        ("S", POINTER),
        ("core", POINTER),
        ("null_weights", POINTER),
        ("trace_terms", POINTER),
        ("parameter", REAL),
        ("exponent", REAL),
        ("ridge", REAL),
        ("n", INT),
        ("channels", INT),
        ("batch", INT),
        ("subtract", INT),
    ),
    tuple((real, *pair) for real in REALS for pair in PAIRS),
)
TRIANGLE_PACK = Kernel(
    "triangle_pack",
    (("Q", POINTER), ("packed", POINTER), ("n", INT), ("batch", INT)),
    (("float", "float"), ("double", "double"), ("double", "float")),
)
TRIANGLE_SPREAD = Kernel(
    "triangle_spread",
    (("packed", POINTER), ("Q", POINTER), ("factor", REAL), ("n", INT), ("batch", INT)),
    (("float", "float"), ("double", "double"), ("float", "double")),
)
KERNELS = (SPECTRAL_CORE, TRIANGLE_PACK, TRIANGLE_SPREAD)


@lru_cache(maxsize=1)
def text() -> str:
    """The CUDA source."""
    return Path(__file__).with_name("heads.cu").read_text(encoding="utf-8")


def function_of(types: Types) -> str:
    """Functor of the function of the spectrum that an instantiation is for, ROOT for the triangles."""
    return next((name for name in types if name in FUNCTION_FUNCTORS), ROOT)


def expressions(function: str | None = None) -> tuple[str, ...]:
    """Names of the instantiations, of all or of those for one function."""
    every = ((kernel, types) for kernel in KERNELS for types in kernel.instances)
    return tuple(kernel.expression(types) for kernel, types in every if function in (None, function_of(types)))


def blocks(kernel: Kernel, n: int, batch: int) -> tuple[int, int]:
    """Grid of a launch for `batch` matrices n x n; a block is (TILE, ROWS) threads."""
    tiles = -(-n // TILE)
    across = -(-n // ROWS) if kernel is TRIANGLE_PACK else tiles * (tiles + 1) // 2
    return across, min(batch, MOST_BLOCKS)


# ---- Launch ----

log = logging.getLogger("gcp")
REAL_NAMES = {torch.float32: "float", torch.float64: "double"}
OPTIONS = ("--std=c++17",)
VARIABLE = "GCP_KERNELS"  # "off" for torch operations


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


@lru_cache(maxsize=16)
def _module(function: str) -> Any:
    """The kernels for one function of the spectrum; compiled by NVRTC for the device of its first use, and cached on
    disk by CuPy. A head has one function, and need not wait for those of the others.
    """
    import cupy

    return cupy.RawModule(code=text(), options=OPTIONS, name_expressions=expressions(function))


@lru_cache(maxsize=256)
def _function(function: str, expression: str, device: int) -> Any:
    return _module(function).get_function(expression)  # loaded into the context of the current device


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


def typed(kernel: Kernel, types: Types, arguments: tuple[Any, ...]) -> list[Any]:
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


def launch(kernel: Kernel, types: Types, n: int, batch: int, arguments: tuple[Any, ...]) -> None:
    """Run an instantiation on `batch` matrices n x n; tensors among the arguments are dense and on one device."""
    if batch == 0:
        return
    first = next(value for value in arguments if isinstance(value, Tensor))
    with on_stream_of(first):
        function = _function(function_of(types), kernel.expression(types), first.device.index)
        function(blocks(kernel, n, batch), (TILE, ROWS), tuple(typed(kernel, types, arguments)))


# ---- Operators ----

_plain: list[None] = []


@contextmanager
def without_kernels() -> Iterator[None]:
    """Plain torch operations in the place of the kernels inside the block, in all threads; eigensolvers stay."""
    _plain.append(None)
    try:
        yield
    finally:
        _plain.pop()


def runs_kernel(x: Tensor) -> bool:
    """Whether an operator launches its kernel; else it falls back on torch operations."""
    return x.device.type == "cuda" and not _plain and available()


def register(name: str, tags: Any = None) -> Callable[[Callable[..., Any]], CustomOpDef]:
    """Decorator: the operator `torch.ops.gcp.<name>`; inside autocast half precision is lifted to float32."""

    def decorate(function: Callable[..., Any]) -> CustomOpDef:
        operator = custom_op(f"gcp::{name}", function, mutates_args=(), tags=tags)
        for device in ("cpu", "cuda"):
            operator.register_autocast(device, torch.float32)
        return operator

    return decorate


def never_differentiated(operator: CustomOpDef) -> None:
    """Make a backward through the operator raise: it is part of a gradient, which is first order only."""
    operator.register_autograd(lambda ctx, *grads: refuse())
