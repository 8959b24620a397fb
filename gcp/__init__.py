"""Global covariance pooling: second-order heads with every published backward, for any backbone."""

from typing import TYPE_CHECKING, Any

from gcp.gradients import spectral_weight
from gcp.heads import create_head, list_heads
from gcp.sqrtm import covariance_sqrt, matrix_sqrt

if TYPE_CHECKING:
    from gcp.models import create_model
    from gcp.runs.trained import load

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "covariance_sqrt",
    "create_head",
    "create_model",
    "list_heads",
    "load",
    "matrix_sqrt",
    "spectral_weight",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """`create_model` and `load` import the model libraries on first use; the heads alone need torch only."""
    if name == "create_model":
        from gcp.models import create_model

        return create_model
    if name == "load":
        from gcp.runs.trained import load

        return load
    raise AttributeError(f"module 'gcp' has no attribute {name!r}")
