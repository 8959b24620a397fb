"""Where a solver of the forward meets a rule of the backward: the matrix square root with its gradients."""

from gcp.sqrtm.root import (
    FORMS,
    SIDES,
    Root,
    check_choice,
    covariance_sqrt,
    matrix_sqrt,
    scaled_covariance_sqrt,
    scaled_root,
)

__all__ = [
    "FORMS",
    "SIDES",
    "Root",
    "check_choice",
    "covariance_sqrt",
    "matrix_sqrt",
    "scaled_covariance_sqrt",
    "scaled_root",
]
