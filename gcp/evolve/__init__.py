"""Widths of trained models that grow and shrink: which channels hang together, and how to change them."""

from gcp.evolve.dimension import Dimension
from gcp.evolve.growth import grow
from gcp.evolve.rebuild import resize
from gcp.evolve.report import Report
from gcp.evolve.resolve import widths
from gcp.evolve.shrinking import shrink
from gcp.evolve.tracer import trace

__all__ = ["Dimension", "Report", "grow", "resize", "shrink", "trace", "widths"]
