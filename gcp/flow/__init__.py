"""Normalising flows: images to a normal distribution and back, with the exact density of every image."""

from gcp.flow.glow import Glow, create_flow
from gcp.flow.layers import (
    COUPLINGS,
    ActNorm,
    Coupling,
    FlowStep,
    Gaussian,
    Prior,
    Split,
    bits_per_dimension,
    normal_log_density,
    squeeze,
    unsqueeze,
)

__all__ = [
    "ActNorm",
    "COUPLINGS",
    "Coupling",
    "Gaussian",
    "Glow",
    "Prior",
    "Split",
    "FlowStep",
    "bits_per_dimension",
    "create_flow",
    "normal_log_density",
    "squeeze",
    "unsqueeze",
]
