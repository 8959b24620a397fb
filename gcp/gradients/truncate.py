r"""`truncate`: K = 1/(l_i - l_j) clipped to +-t.

Folded: W = min(1/(a-b), t) (sqrt a - sqrt b), that is rho = min(1, t (a - b)): exact where the gap is
above 1/t, suppressed below. Song, Sebe and Wang, ICCV 2021 (arXiv:2105.02498), with t = 1e10.
"""

from dataclasses import dataclass

from torch import Tensor

from gcp.gradients.base import RULES, PublishedDifference, Rule
from gcp.options import option


@RULES.register("truncate", summary="K = 1/(l_i - l_j) clipped to +-threshold", paper="Song et al., ICCV 2021")
@dataclass(frozen=True)
class Truncate(Rule):
    """The clipped textbook rule."""

    head = "svd_trunc"
    kernel = "Truncate"
    homogeneous = False
    threshold: float = option(1e10, "largest absolute value of K", minimum=0)

    @property
    def kernel_parameter(self) -> float:
        return float(self.threshold)

    @classmethod
    def of_kernel_parameter(cls, parameter: float) -> "Truncate":
        return cls(parameter)

    def ratio(self, left: Tensor, right: Tensor) -> Tensor:
        return (self.threshold * (left - right).abs()).clamp(max=1)

    def published(self) -> "PublishedTruncate":
        return PublishedTruncate(self.threshold)


@dataclass(frozen=True)
class PublishedTruncate(PublishedDifference):
    """K clipped to +-threshold."""

    threshold: float

    def factor(self, clamped: Tensor) -> Tensor:
        return super().factor(clamped).clamp(-self.threshold, self.threshold)
