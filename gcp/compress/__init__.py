"""Low-rank factorisation of trained models: which layers, which ranks, and what it costs in error."""

from gcp.compress.decompose import decompose
from gcp.compress.factored import Factored
from gcp.compress.factors import dense_shapes, factorise, factors_of, merge, parse_factors
from gcp.compress.fc_decomposer import FC_Decomposer
from gcp.compress.report import CompressionReport, LayerReport

__all__ = [
    "Factored",
    "FC_Decomposer",
    "CompressionReport",
    "LayerReport",
    "decompose",
    "dense_shapes",
    "factorise",
    "factors_of",
    "merge",
    "parse_factors",
]
