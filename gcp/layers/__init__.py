"""Layers whose singular values are known by construction, or bounded, and layers that whiten."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gcp.layers.spectral_norm import spectral_norm  # now: its module would take the name of the function

if TYPE_CHECKING:
    from gcp.layers import fasth
    from gcp.layers.decomposed import LinearSVD, SVDConv1x1, SVDLinear
    from gcp.layers.householder import householder_apply
    from gcp.layers.invertible import InvertibleConv1x1
    from gcp.layers.orthonormal import Orthogonal, OrthogonalConv1x1, OrthogonalLinear
    from gcp.layers.parametrize import orthogonal, svd
    from gcp.layers.reflectors import nearest_orthonormal
    from gcp.layers.symmetric import SymmetricLinear
    from gcp.layers.whitening import Whitening2d, replace_batch_norm

__all__ = [
    "InvertibleConv1x1",
    "LinearSVD",
    "Orthogonal",
    "OrthogonalConv1x1",
    "OrthogonalLinear",
    "SVDConv1x1",
    "SVDLinear",
    "SymmetricLinear",
    "Whitening2d",
    "fasth",
    "householder_apply",
    "nearest_orthonormal",
    "orthogonal",
    "replace_batch_norm",
    "spectral_norm",
    "svd",
]

# Imported on first use: a model without such layers needs none of these modules.
_MODULES = {
    "InvertibleConv1x1": "invertible",
    "LinearSVD": "decomposed",
    "Orthogonal": "orthonormal",
    "OrthogonalConv1x1": "orthonormal",
    "OrthogonalLinear": "orthonormal",
    "SVDConv1x1": "decomposed",
    "SVDLinear": "decomposed",
    "SymmetricLinear": "symmetric",
    "Whitening2d": "whitening",
    "householder_apply": "householder",
    "nearest_orthonormal": "reflectors",
    "orthogonal": "parametrize",
    "replace_batch_norm": "whitening",
    "svd": "parametrize",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    if name == "fasth":
        return import_module(f"{__name__}.fasth")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
