"""Widths of trained models that grow and shrink.

channel_graph/  which channels change together: a model is traced into a graph of dimensions
growth, shrinking, widths      `grow`, `shrink`, `resize` give dimensions other widths
edit                           in every tensor, and in the state of the optimizer
choose, refit, axes, heads, calls   which channels stay, and how what reads them makes up for the others
policy/         who decides: plain decisions from spectra or from a budget, for `gcp.callbacks.evolution` to carry out
"""

from gcp.evolve.channel_graph.dimension import Dimension
from gcp.evolve.channel_graph.tracer import trace
from gcp.evolve.growth import grow
from gcp.evolve.shrinking import shrink
from gcp.evolve.widths import WidthReport, resize, widths

__all__ = ["Dimension", "WidthReport", "grow", "resize", "shrink", "trace", "widths"]
