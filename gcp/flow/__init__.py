"""Normalising flows: images to a normal distribution and back, with the exact density of every image."""

from gcp.flow.actnorm import ActNorm
from gcp.flow.coupling import COUPLINGS, Coupling
from gcp.flow.create import create_flow
from gcp.flow.density import bits_per_dimension, normal_log_density
from gcp.flow.gaussian import Gaussian
from gcp.flow.glow import Glow
from gcp.flow.split import Prior, Split
from gcp.flow.squeeze import squeeze, unsqueeze
from gcp.flow.step import Step

__all__ = [
    "ActNorm",
    "COUPLINGS",
    "Coupling",
    "Gaussian",
    "Glow",
    "Prior",
    "Split",
    "Step",
    "bits_per_dimension",
    "create_flow",
    "normal_log_density",
    "squeeze",
    "unsqueeze",
]
