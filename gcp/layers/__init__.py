"""Layers whose singular values are known by construction, or bounded, and layers that whiten."""

from gcp.layers import fasth
from gcp.layers.decomposed import LinearSVD, SVDConv1x1, SVDLinear
from gcp.layers.householder import householder_apply
from gcp.layers.invertible import InvertibleConv1x1
from gcp.layers.orthonormal import Orthogonal, OrthogonalConv1x1, OrthogonalLinear
from gcp.layers.parametrize import orthogonal, svd
from gcp.layers.reflectors import nearest_orthonormal
from gcp.layers.spectral_norm import spectral_norm
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
