"""Pooling heads: reduce -> covariance -> root -> triangle, and the first-order and bilinear ones beside them."""

from gcp.heads.base import HEADS, Head, nonfinite
from gcp.heads.create import check_options, create_head, head_options, list_heads
from gcp.registry import import_all

import_all(__name__, __path__)

__all__ = ["HEADS", "Head", "check_options", "create_head", "head_options", "list_heads", "nonfinite"]
