r"""Densities, and what they say of discrete images.

Grey levels 0 .. n-1 become continuous by uniform noise, y = (level + u) / n with u in [0, 1) (Theis et al., ICLR 2016,
section 3.1). The log-density of y in nats bounds the log-probability of the levels, for an image of D numbers:

    bits per dimension = -log p(y) / (D log 2) + log2 n
"""

import math

import torch
from torch import Tensor


def normal_log_density(z: Tensor) -> Tensor:
    """Log-density in nats of the standard normal at z (B, ...), of each sample (B,)."""
    z = z.flatten(1)
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))


def bits_per_dimension(log_density: Tensor, dimensions: int, levels: int) -> Tensor:
    """Bits of each image (B,), per number of it.

    Args:
        log_density: (B,) in nats, of images scaled to an interval of length 1.
        dimensions: numbers in an image.
        levels: grey levels of the discrete image.
    """
    return math.log2(levels) - log_density / (dimensions * math.log(2))


def positions(x: Tensor) -> int:
    """Height times width of (B, C, H, W)."""
    return x.shape[2] * x.shape[3]


def each_sample(logarithm: Tensor, x: Tensor) -> Tensor:
    """A log-determinant that is the same for all samples, shape (), as one of each (B,)."""
    return torch.as_tensor(logarithm).expand(len(x))
