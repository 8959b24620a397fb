"""Layers whose singular values are known by construction: products of Householder reflections."""

from gcp.layers.decomposed import LinearSVD, SVDConv1x1, SVDLinear
from gcp.layers.householder import householder_apply
from gcp.layers.orthonormal import Orthogonal, OrthogonalConv1x1, OrthogonalLinear
from gcp.layers.parametrize import orthogonal, svd
from gcp.layers.reflectors import nearest_orthonormal
from gcp.layers.symmetric import SymmetricLinear

__all__ = [
    "LinearSVD",
    "Orthogonal",
    "OrthogonalConv1x1",
    "OrthogonalLinear",
    "SVDConv1x1",
    "SVDLinear",
    "SymmetricLinear",
    "householder_apply",
    "nearest_orthonormal",
    "orthogonal",
    "svd",
]
