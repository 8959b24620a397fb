"""What `heads.cu` holds: every kernel with its arguments and every instantiation, for launcher and tests alike."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

TILE, ROWS = 32, 8  # as in heads.cu
MOST_BLOCKS = 65535  # along the second axis of a grid
REALS = ("float", "double")
RULES = ("Exact", "Original", "Taylor", "PowerIteration", "Truncate", "Newton")
POINTER, REAL, INT = "pointer", "real", "int"  # "real" is the last type of the instantiation that is a REALS


@dataclass(frozen=True)
class Kernel:
    """A kernel template: arguments in their order, and the types that it is compiled for."""

    name: str
    arguments: tuple[tuple[str, str], ...]
    instances: tuple[tuple[str, str], ...]

    def expression(self, types: tuple[str, str]) -> str:
        """Name of an instantiation, as NVRTC and C++ write it."""
        return f"{self.name}<{', '.join(types)}>"

    def real(self, types: tuple[str, str]) -> str:
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
        ("n", INT),
        ("batch", INT),
        ("subtract", INT),
    ),
    tuple((real, rule) for real in REALS for rule in RULES),
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


def expressions() -> tuple[str, ...]:
    """Names of all instantiations."""
    return tuple(kernel.expression(types) for kernel in KERNELS for types in kernel.instances)


def blocks(kernel: Kernel, n: int, batch: int) -> tuple[int, int]:
    """Grid of a launch for `batch` matrices n x n; a block is (TILE, ROWS) threads."""
    tiles = -(-n // TILE)
    across = -(-n // ROWS) if kernel is TRIANGLE_PACK else tiles * (tiles + 1) // 2
    return across, min(batch, MOST_BLOCKS)
