r"""`seb`, the scaling eigen branch: Q (1 + s), s = sqrt(sum_i l_i exp(-2 l_i)), with its exact gradient.

    core = (1 + s) W o S + <G, Q> diag(s'),     s'_i = (1 - 2 l_i) exp(-2 l_i) / (2 s),     w0 = (1 + s)/sqrt l

with W the exact weight and s' = 0 where s = 0. The whole root is scaled, the ratios of its eigenvalues stay.
Song, Sebe and Wang, TPAMI 2022 (arXiv:2205.13282).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.gradients.exact import Exact
from gcp.heads.base import HEADS, HeadKind, RootHead
from gcp.ops.numerics import inverse_or_zero
from gcp.roots.eigen import Eigen
from gcp.roots.root import Root


def _scale(kept: Tensor) -> Tensor:
    return (kept * torch.exp(-2 * kept)).sum(1, keepdim=True).sqrt()


@dataclass(frozen=True)
class ScaledExact(Exact):
    """The exact rule for the scaled root."""

    homogeneous = False

    def null_weight(self, kept: Tensor) -> Tensor:
        return super().null_weight(kept) * (1 + _scale(kept))

    def core(self, kept: Tensor, S: Tensor) -> tuple[Tensor, Tensor | None]:
        s = _scale(kept)
        inner = (S.diagonal(dim1=1, dim2=2) * kept.sqrt()).sum(1, keepdim=True)  # <G, Q>
        slope = (1 - 2 * kept) * torch.exp(-2 * kept) * inverse_or_zero(2 * s)
        core = self.weight(kept) * S * (1 + s)[:, :, None]
        return core + torch.diag_embed(inner * slope), None


@dataclass(frozen=True)
class ScaledEigen(Eigen):
    """Eigendecomposition of the scaled root."""

    def values(self, kept: Tensor) -> Tensor:
        return super().values(kept) * (1 + _scale(kept))


class ScalingBranch(RootHead):
    """triangle(Q (1 + s))."""

    def __init__(
        self,
        in_channels: int,
        dim: int | None = None,
        reduction: str = "conv",
        side: str = "auto",
        precision: str | None = None,
    ):
        super().__init__(in_channels, dim, reduction)
        self.root = Root(ScaledEigen(ScaledExact()), side, precision)


HEADS.add(
    "seb",
    HeadKind(ScalingBranch, takes=("side", "precision")),
    summary="scaling eigen branch: Q (1 + s), exact gradient",
    paper="Song et al., TPAMI 2022",
)
