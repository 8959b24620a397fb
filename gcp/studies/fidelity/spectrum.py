"""The spectrum of the covariance of a map, by way of the singular values of its centred features."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.ops.eigenvalues import conditions, effective_ranks, ranks


@dataclass(frozen=True)
class Spectrum:
    """Of the covariances of maps, each (B,): null eigenvalues are left out of all but the rank."""

    condition: Tensor
    effective_rank: Tensor
    rank: Tensor
    gap: Tensor


def singular_values(maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """V (B, d, k), s (B, k), U^T (B, k, M) of Xc = V diag(s) U^T in float64, and which s are not null (B, k).

    Not by way of the covariance, which would square the condition number. Null is below the rounding of the
    decomposition, 4 max(d, M) eps s_max.
    """
    X = maps.double().flatten(2)
    V, s, Uh = torch.linalg.svd(X - X.mean(2, keepdim=True), full_matrices=False)
    noise = 4 * max(X.shape[1:]) * torch.finfo(torch.float64).eps
    return V, s, Uh, s > noise * s[:, :1]


def spectrum_of(maps: Tensor) -> Spectrum:
    """Condition number, effective rank, rank and smallest gap of the covariances of maps (B, d, H, W).

    As in `gcp.ops.eigenvalues`, but by way of the singular values and with the gap relative to the larger of its two
    eigenvalues, 1 where there are no two.
    """
    _, s, _, alive = singular_values(maps)
    eigenvalues = (s.square() * alive / (maps.shape[2] * maps.shape[3])).flip(1)
    gaps = 1 - eigenvalues[:, :-1] / eigenvalues[:, 1:].clamp(min=torch.finfo(torch.float64).tiny)
    gaps = torch.where(eigenvalues[:, :-1] > 0, gaps, 1)
    return Spectrum(
        conditions(eigenvalues),
        effective_ranks(eigenvalues),
        ranks(eigenvalues),
        torch.cat([gaps, torch.ones_like(eigenvalues[:, :1])], 1).amin(1),
    )
