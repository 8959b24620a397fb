r"""`taylor`: K = (1 + x + ... + x^k) / a, the truncated geometric series.

Folded: rho = 1 - x^(k+1). It suppresses the gradient between near-equal eigenvalues; the error is x^(k+1),
37 % at x = 0.99 for the default degree 100. Song, Sebe and Wang, ICCV 2021 (arXiv:2105.02498); the series
is from Wang et al., arXiv:2104.03821.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.gradients.base import RULES, Published, Rule, signed_pairs
from gcp.ops.numerics import inverse_or_zero
from gcp.options import option


@RULES.register("taylor", summary="K = (1 + x + ... + x^degree)/a: damps close pairs", paper="Song et al., ICCV 2021")
@dataclass(frozen=True)
class Taylor(Rule):
    """The truncated geometric series."""

    head = "svd_taylor"
    kernel = "Taylor"
    degree: int = option(100, "degree k of the geometric series", minimum=0, maximum=10_000)

    @property
    def kernel_parameter(self) -> float:
        return float(self.degree + 1)

    @classmethod
    def of_kernel_parameter(cls, parameter: float) -> "Taylor":
        return cls(round(parameter) - 1)

    def ratio(self, left: Tensor, right: Tensor) -> Tensor:
        # 1 - x^(k+1) through the relative gap, which is exact where x is close to 1
        gap = (left - right).abs() * inverse_or_zero(torch.maximum(left, right))
        return -torch.expm1((self.degree + 1) * torch.log1p(-gap))

    def published(self) -> "PublishedTaylor":
        return PublishedTaylor(self.degree)


@dataclass(frozen=True)
class PublishedTaylor(Published):
    """The series summed term by term."""

    degree: int

    def factor(self, clamped: Tensor) -> Tensor:
        x, inverse = signed_pairs(clamped)
        series = torch.ones_like(x)
        for _ in range(self.degree):
            series = series * x + 1
        return inverse * series
