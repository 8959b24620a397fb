"""Widths of trained models that grow and shrink.

ties/       which channels hang together: a model is traced into a graph of dimensions
growth, shrinking, rebuild     the engine: `grow`, `shrink`, `resize` give dimensions other widths ...
edit, moments                  ... in every tensor, and in the state of the optimizer
resolve, rehearsal, report     what is asked for, tried before the model is touched, and what has come out
choose, refit, axes, calls     which channels stay, and how what reads them makes up for the others
policy/     who decides: plain decisions from spectra or from a budget, for `gcp.engine.evolution` to carry out
"""

from gcp.evolve.growth import grow
from gcp.evolve.rebuild import resize
from gcp.evolve.report import Report
from gcp.evolve.resolve import widths
from gcp.evolve.shrinking import shrink
from gcp.evolve.ties.dimension import Dimension
from gcp.evolve.ties.tracer import trace

__all__ = ["Dimension", "Report", "grow", "resize", "shrink", "trace", "widths"]
