r"""`top_n`: the smallest eigenvalues are set to zero, the rest is exact.

Folded: exact inside the kept block, 1/sqrt(l_kept) between kept and dropped, 0 among the dropped. That is an
approximation on purpose: the derivative of the truncated root would have sqrt(l_kept)/(l_kept - l_dropped)
between the blocks. The published form sets the dropped eigenvalues to machine epsilon, whose inverse root
then explodes in the gradient (3.7e7 in norm where the folded one is of order one).

How many: the published code drops the 50 smallest whatever d is, `drop=50`. `keep` is a share of d, or a count; by
default the share that the published code keeps of its 256 channels, 206/256, which is the same there and scales with d.

Song, Sebe and Wang, ICCV 2021 (arXiv:2105.02498).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.errors import OptionError
from gcp.gradients.base import RULES, PublishedDifference, Rule
from gcp.options import option

KEEP = 206 / 256


@RULES.register(
    "top_n", summary="the smallest eigenvalues are dropped, the rest is exact", paper="Song et al., ICCV 2021"
)
@dataclass(frozen=True)
class TopN(Rule):
    """Exact on the `keep` largest eigenvalues, or on all but the `drop` smallest."""

    head = "svd_topn"
    kernel = "Exact"  # dropped eigenvalues arrive as zeros
    keep: float = option(KEEP, "eigenvalues kept: a fraction of d up to 1.0, or a count from 1", minimum=0)
    drop: int | None = option(None, "eigenvalues dropped in place of keep; published: 50", minimum=0, optional=True)

    def __post_init__(self) -> None:
        if self.keep == 0 or (self.keep > 1 and self.keep != int(self.keep)):
            raise OptionError(f"option keep of 'top_n' is {self.keep!r}; allowed: a fraction in (0, 1.0], or a count.")
        if self.drop is not None and self.keep != KEEP:
            raise OptionError(f"top_n takes keep or drop, got keep={self.keep} and drop={self.drop}; leave one out.")

    def count(self, channels: int) -> int:
        """Eigenvalues kept of d; an integer is a count (1 too), a float up to 1.0 a fraction.

        Raises OptionError where `drop` leaves none.
        """
        if self.drop is not None:
            if self.drop >= channels:
                raise OptionError(f"option drop of 'top_n' is {self.drop}, of {int(channels)} channels none is left.")
            return channels - self.drop
        if isinstance(self.keep, float) and self.keep <= 1:
            return max(1, round(self.keep * int(channels)))
        return min(int(self.keep), channels)

    def spectrum(self, eigenvalues: Tensor, channels: int) -> Tensor:
        return eigenvalues.masked_fill(self.dropped(eigenvalues, channels), 0)

    def published(self) -> "PublishedTopN":
        return PublishedTopN(self)

    def dropped(self, eigenvalues: Tensor, channels: int) -> Tensor:
        """Whether an eigenvalue (B, n) is past the `keep` largest."""
        order = eigenvalues.argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(order)
        rank.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
        return rank >= self.count(channels)


@dataclass(frozen=True)
class PublishedTopN(PublishedDifference):
    """Dropped eigenvalues at machine epsilon."""

    rule: TopN

    def spectrum(self, eigenvalues: Tensor) -> Tensor:
        eps = torch.finfo(eigenvalues.dtype).eps
        return eigenvalues.masked_fill(self.rule.dropped(eigenvalues, eigenvalues.shape[1]), eps).clamp(min=eps)
