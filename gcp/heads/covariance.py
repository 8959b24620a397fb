r"""`covariance`: the covariance itself, without a root; and what has been put in the place of the root for its price.

`drop_cov` drops channels while it trains and is `covariance` in evaluation. Wang, Gao, Zhang, Xie, Li and Hu, NeurIPS
2022. With the mean m of the features,

    y = softmax(k * m),   x <- (1 + y) x,   c_i = sum_j P_ij,   rate = 1 - (10 / log2 d) <y, c> / (|y| |c|)

k a trained convolution of three neighbouring channels, P the covariance of the scaled features, the cosine a mean over
the batch, the rate within [0, 0.95] (published 1, which drops all): at d = 64 nothing is dropped while the cosine is
above 0.6, at d = 256 above 0.8. Channels of each image are dropped independently
and the others scaled by 1 / (1 - rate). No gradient goes through the rate.

`max_singular` takes the power a of the largest eigenvalues only. Xie, Zeng, Wang, Zhou and Li, So-ViT, 2021
(arXiv:2104.10935), who apply it to a cross-covariance. With r triples (u, s, v) by power iteration and deflation,

    F = sum_i s_i^a u_i v_i^T + (P - sum_i s_i u_i v_i^T) / (s_r^(1-a) + 1e-5)

For r = 1 that is P / s_1^(1-a), up to the offset and to what one step of the iteration is off. The output is the
triangle of (F + F^T)/2; the gradient is that of the steps. The iteration starts from ones; the published one may also
start from a trained vector.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gcp.heads.base import HEADS, Head, HeadKind
from gcp.kernels.triangle import pack, triangle_size
from gcp.ops.covariance import covariance
from gcp.ops.numerics import compute_dtype, output_dtype, outside_autocast, scaled, sym
from gcp.options import option

LARGEST_RATE = 0.95
SINGULAR_OFFSET = 1e-5  # as published


class Covariance(Head):
    """triangle(covariance(reduce(x)))."""

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", precision: str | None = None):
        super().__init__(in_channels, dim, reduction)
        self.precision = precision

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        return triangle_size(channels)

    def pool(self, x: Tensor) -> Tensor:
        P = covariance(x, compute_dtype(x, self.precision, "float32"))
        with outside_autocast(x):
            return pack(self.normalised(P), output_dtype(x))

    def normalised(self, P: Tensor) -> Tensor:
        """The matrix (B, d, d) whose triangle is the output, made of the covariance (B, d, d) by plain operations."""
        return P


HEADS.add(
    "covariance",
    HeadKind(Covariance, takes=("precision",)),
    summary="covariance without a root",
)


class DropCov(Covariance):
    """The covariance, with adaptive channel dropout in training mode."""

    own_tensors = ("importance",)

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", precision: str | None = None):
        super().__init__(in_channels, dim, reduction, precision)
        self.importance = nn.Parameter(torch.tensor([[[0.0, 1.0, 0.0]]]))  # each channel by its own mean to begin with

    def pool(self, x: Tensor) -> Tensor:
        return super().pool(self.drop(x) if self.training else x)

    def drop(self, x: Tensor) -> Tensor:
        """Features (B, d, H, W) scaled by their importance, channels dropped."""
        with outside_autocast(x):
            x = x.to(output_dtype(x))
            mean = x.mean((2, 3))
            y = functional.conv1d(mean[:, None], self.importance.to(x.dtype), padding=1).softmax(2)[:, 0]
            x = x * (1 + y)[:, :, None, None]
            rate = self.rate(x.detach(), y.detach())
            kept = torch.rand(x.shape[:2], dtype=x.dtype, device=x.device) >= rate
            return x * (kept / (1 - rate))[:, :, None, None]

    def rate(self, x: Tensor, importance: Tensor) -> Tensor:
        """The share () of channels that are dropped, for scaled features and their importance (B, d)."""
        d = x.shape[1]
        if d == 1 or len(x) == 0:
            return x.new_zeros(())
        P = covariance(x, compute_dtype(x, self.precision, "float32"))
        cosine = functional.cosine_similarity(importance, P.sum(2).to(x.dtype), dim=1).mean()
        return (1 - 10 / torch.tensor(float(d)).log2().item() * cosine).clamp(0, LARGEST_RATE)


HEADS.add(
    "drop_cov",
    HeadKind(DropCov, takes=("precision",)),
    summary="covariance, with adaptive channel dropout while it trains",
    paper="Wang et al., NeurIPS 2022",
)


@dataclass(frozen=True)
class SingularOptions:
    """Which singular values take a power, and how they are found."""

    exponent: float = option(0.5, "power of the singular values", minimum=0.01, maximum=1)
    values: int = option(1, "singular values, largest first, that take the power", minimum=1, maximum=16)
    iterations: int = option(1, "power iterations for each", minimum=1, maximum=100)


class MaxSingular(Covariance):
    """The covariance normalised by a power of its largest singular values."""

    def __init__(
        self,
        in_channels: int,
        dim: int | None = None,
        reduction: str = "conv",
        precision: str | None = None,
        **options: Any,
    ):
        super().__init__(in_channels, dim, reduction, precision)
        self.options = SingularOptions(**options)

    def normalised(self, P: Tensor) -> Tensor:
        return singular_power(P, self.options)


def singular_power(P: Tensor, options: SingularOptions) -> Tensor:
    """(F + F^T)/2 (B, d, d) of a symmetric P (B, d, d)."""
    a, rest, F = options.exponent, P, torch.zeros_like(P)
    for _ in range(min(options.values, P.shape[1])):
        v = P.new_ones(P.shape[0], P.shape[1], 1)
        for _ in range(options.iterations):
            u = functional.normalize(rest @ v, dim=1)
            v = functional.normalize(rest.mT @ u, dim=1)
        s = (u.mT @ rest @ v)[:, 0, 0]
        outer = u @ v.mT
        F = F + scaled(outer, _power(s, a))
        rest = rest - scaled(outer, s)
    return sym(F + scaled(rest, 1 / (_power(s, 1 - a) + SINGULAR_OFFSET)))


def _power(s: Tensor, exponent: float) -> Tensor:
    """s^exponent where s > 0, else 0 without a gradient."""
    positive = s > 0
    return torch.where(positive, torch.where(positive, s, 1).pow(exponent), 0)


HEADS.add(
    "max_singular",
    HeadKind(MaxSingular, takes=("precision",), options=SingularOptions),
    summary="covariance over a power of its largest singular values",
    paper="Xie et al. 2021",
)
