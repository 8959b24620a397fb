"""CUDA: the batched eigensolver and the kernels of the heads, each with torch operations to fall back on.

Nothing here is needed on a machine without a GPU, and importing it loads neither CuPy nor a CUDA library. On
tensors of the CPU every function is the torch operation that it stands for.
"""

from gcp.kernels.backend import use_eigensolver
from gcp.kernels.eigensolver import eigh
from gcp.kernels.failures import check_failures
from gcp.kernels.launch import without_kernels
from gcp.kernels.spectral import function_core, spectral_core
from gcp.kernels.triangle import pack, spread

__all__ = [
    "check_failures",
    "eigh",
    "function_core",
    "pack",
    "spectral_core",
    "spread",
    "use_eigensolver",
    "without_kernels",
]
