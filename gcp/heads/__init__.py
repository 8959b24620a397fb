"""Pooling heads: reduce -> covariance -> root -> triangle, and the first-order and bilinear ones beside them."""

from gcp.heads.base import HEADS, Head, RootHead, nonfinite
from gcp.heads.create import (
    check_options,
    create_head,
    exchange_fault,
    head_options,
    head_outputs,
    list_heads,
    outputs_of,
)
from gcp.registry import import_all

import_all(__name__, __path__)

__all__ = [
    "HEADS",
    "Head",
    "RootHead",
    "check_options",
    "create_head",
    "exchange_fault",
    "head_options",
    "head_outputs",
    "list_heads",
    "nonfinite",
    "outputs_of",
]
