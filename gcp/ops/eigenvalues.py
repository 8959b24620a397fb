r"""The spectrum of a covariance: its eigenvalues, and the numbers that sum them up.

    condition number    l_max / l_min
    effective rank      exp(-sum_i p_i log p_i),  p_i = l_i / sum_j l_j           (Roy and Vetterli, EUSIPCO 2007)
    smallest gap        min_i (l_(i+1) - l_i) / l_max

each of the eigenvalues that are not null. A map of M positions has at most M - 1 of these, and those that count as zero
are rounding (`gcp.ops.covariance`), near l_max times the machine epsilon: with them a condition number would only say
what the precision is.
"""

import math

import torch
from torch import Tensor

from gcp.ops.covariance import centre, covariance_matrix, gram, noise_floor, without_noise
from gcp.ops.numerics import outside_autocast

# Condition number at which the gradient of a root has lost all but three digits: measured in float32 (log-uniform
# spectrum, d = 256: error 8e-5 at 1e4, 1e-3 at 1e5, 6e-3 at 1e6); the error grows with the machine epsilon.
CONDITION_LIMITS = {"float32": 1e5, "float64": 5e13}
SHARE_LIMIT = 0.1  # share of the gradient that a rule may change before it is worth a remark


@torch.no_grad()
def covariance_eigenvalues(x: Tensor) -> Tensor:
    """Ascending eigenvalues (B, min(d, M)) of the covariance of each map (B, d, H, W), exactly 0 where they are null.

    In float64, on the smaller of covariance and Gram matrix.

    Raises:
        ShapeError: a map of one position.
    """
    with outside_autocast(x):
        few = x.shape[2] * x.shape[3] < x.shape[1]
        matrix = gram(centre(x, torch.float64)) if few else covariance_matrix(x, torch.float64)
        eigenvalues = torch.linalg.eigvalsh(matrix)
        return without_noise(eigenvalues, noise_floor(x, torch.float64))


def ranks(eigenvalues: Tensor) -> Tensor:
    """How many of the eigenvalues (B, n) are not null, (B,)."""
    return (eigenvalues > 0).sum(1)


def conditions(eigenvalues: Tensor) -> Tensor:
    """Condition numbers (B,) of eigenvalues (B, n); inf where all are null."""
    smallest = eigenvalues.masked_fill(eigenvalues == 0, math.inf).amin(1)
    return torch.where(ranks(eigenvalues) == 0, math.inf, eigenvalues.amax(1) / smallest)


def effective_ranks(eigenvalues: Tensor) -> Tensor:
    """Effective ranks (B,) of eigenvalues (B, n), from 1 to the rank; NaN where all are null."""
    shares = eigenvalues / eigenvalues.sum(1, keepdim=True)
    return torch.special.entr(shares).sum(1).exp()


def smallest_gaps(eigenvalues: Tensor) -> Tensor:
    """Smallest gaps (B,) of ascending eigenvalues (B, n), relative to the largest; inf below a rank of two."""
    gaps = eigenvalues.diff(dim=1).masked_fill(eigenvalues[:, :-1] == 0, math.inf)
    gaps = torch.cat([gaps, torch.full_like(eigenvalues[:, :1], math.inf)], 1)  # a single eigenvalue has none
    return gaps.amin(1) / eigenvalues.amax(1)
