r"""The scaling eigen branch: Q (1 + s), s = sqrt(sum_i l_i exp(-2 l_i)), with its exact gradient.

    core = (1 + s) W o S + <G, Q> diag(s'),     s'_i = (1 - 2 l_i) exp(-2 l_i) / (2 s),     w0 = (1 + s)/sqrt l

with W the exact weight and s' = 0 where s = 0. Not one of the backward rules: it changes the forward.
Song, Sebe and Wang, TPAMI 2022 (arXiv:2205.13282).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.gradients.base import Rule
from gcp.ops.matrix import inverse_or_zero


def _scale(kept: Tensor) -> Tensor:
    return (kept * torch.exp(-2 * kept)).sum(1, keepdim=True).sqrt()


@dataclass(frozen=True)
class ScalingBranch(Rule):
    """Exact gradient of the scaled root."""

    def root(self, kept: Tensor) -> Tensor:
        return kept.sqrt() * (1 + _scale(kept))

    def null_weight(self, kept: Tensor) -> Tensor:
        return super().null_weight(kept) * (1 + _scale(kept))

    def core(self, kept: Tensor, S: Tensor) -> tuple[Tensor, Tensor | None]:
        s = _scale(kept)
        inner = (S.diagonal(dim1=1, dim2=2) * kept.sqrt()).sum(1, keepdim=True)  # <G, Q>
        slope = (1 - 2 * kept) * torch.exp(-2 * kept) * inverse_or_zero(2 * s)
        core = self.weight(kept) * S * (1 + s)[:, :, None]
        return core + torch.diag_embed(inner * slope), None
