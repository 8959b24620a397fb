r"""`cross_covariance`: covariances between two projections of the features, one matrix for each of several heads.

    Y_h = W_h X,  Z_h = V_h X,   Q_h = (Y_h - mean)(Z_h - mean)^T / M,   out = Q_h / s(Q_h)^(1/2),  all entries

of features X (d, M); W_h and V_h are trained, (width, d), and s is the largest singular value (`normalise:
max_singular`). Xie, Zeng, Wang, Zhou and Li, So-ViT, 2021 (arXiv:2104.10935), and its successor SoT, for the tokens of
a transformer: 6 heads of width 24. Each matrix is as if its singular values had been taken to the power 1/2 where they
are all alike; the ratios between them stay. Published code estimates s by one power iteration and subtracts one mean of
all channels; here s is the largest singular value, and each channel has its own mean.

s^2 is <T, Q^T Q> with T = (Q^T Q)^1024 over its trace, the projector on the first right singular vector, by ten
squarings: products only, in the forward and in an exported program. Its gradient is 2 Q T, exact but where the two
largest singular values differ by less than 0.5 %; there, and where they are equal, it is that of a mean of both
directions, which is a subgradient.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcp.heads.base import HEADS, Head, HeadKind
from gcp.ops.covariance import samples, unit_scale
from gcp.ops.numerics import compute_dtype, output_dtype, outside_autocast
from gcp.options import defaults, option

SQUARINGS = 10


@dataclass(frozen=True)
class CrossOptions:
    """The heads, the width of each, and how their matrices are normalised."""

    heads: int = option(6, "covariance matrices, each of two projections of its own", minimum=1, maximum=1024)
    width: int = option(24, "channels of a projection; a head gives width^2 numbers", minimum=1, maximum=1024)
    normalise: str = option(
        "max_singular", "divide by the root of the largest singular value, or not", choices=("max_singular", "none")
    )
    seed: int = option(0, "seed of the projections", minimum=0, maximum=2**63 - 1)


def largest_singular_value(Q: Tensor) -> Tensor:
    """(..., n, m) -> (..., 1, 1), of the order of one in Q; 0 of a zero matrix."""
    A = Q.mT @ Q
    tiny = torch.finfo(A.dtype).tiny
    with torch.no_grad():
        T = A / _trace(A).clamp(min=tiny)
        for _ in range(SQUARINGS):
            T = T @ T
            T = T / _trace(T).clamp(min=tiny)
    square = (T * A).sum((-2, -1), keepdim=True)
    alive = square > 0
    return torch.where(alive, square, 1).sqrt() * alive


def _trace(A: Tensor) -> Tensor:
    return A.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]


class CrossCovariance(Head):
    """Entries of the cross-covariance matrices of all heads, (B, heads width^2)."""

    own_tensors = ("projection",)
    projection: nn.Parameter  # (2 heads width, channels): W of all heads, then V

    def __init__(
        self,
        in_channels: int,
        dim: int | None = None,
        reduction: str = "conv",
        precision: str | None = None,
        heads: int = 6,
        width: int = 24,
        normalise: str = "max_singular",
        seed: int = 0,
    ):
        super().__init__(in_channels, dim, reduction, heads=heads, width=width)
        self.heads, self.width, self.normalise, self.precision = heads, width, normalise, precision
        # Drawn from their own seed, as other tensors of heads are: the global random state is left alone.
        start = torch.randn(2 * heads * width, self.channels, generator=torch.Generator().manual_seed(seed))
        self.projection = nn.Parameter(start / self.channels**0.5)

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        chosen = {**defaults(CrossOptions), **options}
        return int(chosen["heads"]) * int(chosen["width"]) ** 2

    def pool(self, x: Tensor) -> Tensor:
        with outside_autocast(x):
            dtype = compute_dtype(x, self.precision, "float32")
            scale = unit_scale(x, dtype)
            X = samples(x if scale is None else x / scale).to(dtype)
            X = X - X.mean(2, keepdim=True)
            W = self.projection.to(dtype).expand(X.shape[0], -1, -1)
            both = torch.bmm(W, X).unflatten(1, (2, self.heads, self.width))
            Q = both[:, 0] @ both[:, 1].mT / X.shape[2]
            if self.normalise == "max_singular":
                # Entries of the order of one, so that neither squares nor roots leave the range of the dtype.
                size = Q.detach().abs().amax((2, 3), keepdim=True)
                size = torch.where(size > 0, size, 1)
                Q = Q / size
                s = largest_singular_value(Q)
                Q = Q * torch.where(s > 0, s, 1).rsqrt() * size.sqrt()
            if scale is not None:  # of degree one in the features, and without the normalisation of degree two
                Q = Q * (scale if self.normalise == "max_singular" else scale**2)
            return Q.flatten(1).to(output_dtype(x))


HEADS.add(
    "cross_covariance",
    HeadKind(CrossCovariance, takes=("precision",), options=CrossOptions),
    summary="cross-covariances of projections, several heads, over the root of the largest singular value",
    paper="Xie et al., 2021 (So-ViT)",
)
