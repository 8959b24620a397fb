"""Global covariance pooling: second-order heads with every published backward, for any backbone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcp.functional import covariance_function, covariance_sqrt, matrix_function, matrix_sqrt
    from gcp.gradients import spectral_weight
    from gcp.heads import create_head, list_heads
    from gcp.heads.first_batches import initialize_head
    from gcp.models import create_model
    from gcp.runs.fit import fit
    from gcp.runs.trained import load

__version__ = "0.2.0"
__all__ = [
    "__version__",
    "covariance_function",
    "covariance_sqrt",
    "create_head",
    "create_model",
    "fit",
    "initialize_head",
    "list_heads",
    "load",
    "matrix_function",
    "matrix_sqrt",
    "spectral_weight",
]

# Imported on first use: `gcp --help` needs no torch, and the heads need torch only.
_MODULES = {
    "covariance_function": "gcp.functional",
    "covariance_sqrt": "gcp.functional",
    "create_head": "gcp.heads",
    "create_model": "gcp.models",
    "fit": "gcp.runs.fit",
    "initialize_head": "gcp.heads.first_batches",
    "list_heads": "gcp.heads",
    "load": "gcp.runs.trained",
    "matrix_function": "gcp.functional",
    "matrix_sqrt": "gcp.functional",
    "spectral_weight": "gcp.gradients",
}
# whose names are reached by `import gcp` alone
_PACKAGES = (
    "compress",
    "data",
    "evolve",
    "flow",
    "functional",
    "functions",
    "gradients",
    "heads",
    "layers",
    "models",
    "roots",
    "solvers",
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name in _PACKAGES:
        return import_module(f"gcp.{name}")
    raise AttributeError(f"module 'gcp' has no attribute {name!r}")
