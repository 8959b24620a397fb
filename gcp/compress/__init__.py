"""Low-rank factorisation of trained models: which layers, which ranks, and what it costs in error."""

from gcp.compress.decompose import decompose
from gcp.compress.factored import Factored
from gcp.compress.factors import dense_shapes, factorise, factors_of, merge, parse_factors
from gcp.compress.report import Report, Row

__all__ = [
    "Factored",
    "Report",
    "Row",
    "decompose",
    "dense_shapes",
    "factorise",
    "factors_of",
    "merge",
    "parse_factors",
]
