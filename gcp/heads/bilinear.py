r"""`bilinear`: X X^T / M without centring, signed square root, l2 norm (B-CNN); `compact_bilinear`, its sketch; and
`low_rank_bilinear`, which has trained factors instead of all pairs.

Lin, RoyChowdhury and Maji, ICCV 2015 (arXiv:1504.07889); Gao, Beijbom, Zhang and Darrell, CVPR 2016
(arXiv:1511.06062); Kong and Fowlkes, CVPR 2017 (arXiv:1611.05109).

With factors u_1 .. u_D, the rows of a 1x1 convolution, low-rank pooling is

    z_j = u_j^T (X X^T / M) u_j = mean_M (u_j^T x)^2,      then the signed root and the l2 norm as for the others

A linear classifier on z has for each class the bilinear form sum_j w_j u_j u_j^T, of rank D and with weights of either
sign: the co-decomposition of Kong and Fowlkes with the factors shared by all classes, and D numbers in place of d^2.

A tensor sketch is a random projection of x x^T to D dimensions by count sketches and the FFT. A count sketch sends
channel i to bucket h(i) with sign s(i); the circular convolution of two sketches of x is a count sketch of x x^T with
hash h1(i) + h2(j) mod D (Pham and Pagh, KDD 2013). The hashes are buffers drawn from their own seed: they are saved
with the model, and the global random state is left alone. A bucket that no pair of channels meets is zero here; in the
published code it holds rounding noise of the FFT, which the signed root lifts to 1e-4.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gcp.heads.base import HEADS, Head, HeadKind
from gcp.ops.covariance import unit_scale
from gcp.ops.numerics import compute_dtype, output_dtype, outside_autocast
from gcp.options import build, defaults, option

ROOT_OFFSET = 1e-8  # under the signed root, as published: bounds its slope at zero


def signed_root(x: Tensor, offset: Tensor | float = ROOT_OFFSET) -> Tensor:
    """sign(x) sqrt(|x| + offset), l2-normalised over the last dimension."""
    return functional.normalize(torch.sign(x) * torch.sqrt(x.abs() + offset), dim=-1)


def bounded(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | float]:
    """Features (B, C, M) in `dtype`, and the offset of the signed root, a number or (B, 1).

    Where squares would overflow, features are divided by a power of two and the offset by its square: the normalised
    output is the same.
    """
    X, scale = x.flatten(2).to(dtype), unit_scale(x, dtype)
    if scale is None:
        return X, ROOT_OFFSET
    scale = scale[:, 0].to(dtype).clamp(min=1)
    return X / scale, (ROOT_OFFSET / scale[:, 0] ** 2).clamp(min=torch.finfo(dtype).tiny)


def hashes(channels: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Buckets (2, channels) int64 and signs (2, channels) float32, from their own generator."""
    generator = torch.Generator().manual_seed(seed)
    buckets = torch.randint(size, (2, channels), generator=generator)
    return buckets, 2.0 * torch.randint(2, (2, channels), generator=generator) - 1


def count_sketch(X: Tensor, buckets: Tensor, signs: Tensor, size: int) -> Tensor:
    """(B, M, C) -> (B, M, size)."""
    sketch = X.new_zeros(*X.shape[:2], size)
    return sketch.index_add(2, buckets, X * signs.to(X.dtype))


def tensor_sketch(X: Tensor, buckets: Tensor, signs: Tensor, size: int) -> Tensor:
    """Sum over M of the sketches of x x^T: (B, M, C) -> (B, size).

    The sketch is linear in x x^T: where the sum of these, C x C, is smaller than M sketches, it is sketched instead.
    """
    if X.shape[0] == 0:  # some FFT libraries refuse it
        return X.sum((1, 2))[:, None].expand(-1, size)
    C, M = X.shape[2], X.shape[1]
    if X.device.type == "cpu" and M * size >= C * C:  # on a GPU sums in buckets would have no fixed order
        where, sign = (buckets[0][:, None] + buckets[1]) % size, signs[0][:, None] * signs[1]
        pairs = (X.mT @ X * sign.to(X.dtype)).flatten(1)
        return X.new_zeros(X.shape[0], size).index_add(1, where.flatten(), pairs)
    first, second = (torch.fft.rfft(count_sketch(X, buckets[i], signs[i], size)) for i in range(2))
    return torch.fft.irfft((first * second).sum(1), n=size)


def reachable(buckets: Tensor, size: int) -> Tensor:
    """Whether any pair of channels meets a bucket, (size,) bool."""
    met = torch.zeros(size, dtype=torch.bool, device=buckets.device)
    met[(buckets[0][:, None] + buckets[1]).flatten() % size] = True
    return met


class Bilinear(Head):
    """Normalised second moment, all d^2 entries; a 1x1 map is allowed."""

    least_samples = 1

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", precision: str | None = None):
        super().__init__(in_channels, dim, reduction)
        self.precision = precision

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        return channels**2

    def pool(self, x: Tensor) -> Tensor:
        with outside_autocast(x):
            X, offset = bounded(x, compute_dtype(x, self.precision, "float32"))
            return signed_root((X @ X.mT / X.shape[2]).flatten(1), offset).to(output_dtype(x))


HEADS.add(
    "bilinear",
    HeadKind(Bilinear, takes=("precision",)),
    summary="X X^T / M, signed root, l2 norm",
    paper="Lin et al., ICCV 2015",
)


@dataclass(frozen=True)
class SketchOptions:
    """Size of the sketch, and the seed of its hashes."""

    sketch: int = option(8192, "dimensions of the sketch", minimum=1, maximum=2**20)
    seed: int = option(0, "seed of the hashes", minimum=0, maximum=2**63 - 1)


class CompactBilinear(Head):
    """Sketched second moment; a 1x1 map is allowed."""

    buckets: Tensor
    signs: Tensor
    reachable: Tensor

    least_samples = 1
    own_tensors = ("buckets", "signs")

    def __init__(
        self,
        in_channels: int,
        dim: int | None = None,
        reduction: str = "conv",
        precision: str | None = None,
        **options: Any,
    ):
        chosen = build(SketchOptions, "compact_bilinear", options)
        super().__init__(in_channels, dim, reduction, sketch=chosen.sketch)
        self.precision = precision
        buckets, signs = hashes(self.channels, chosen.sketch, chosen.seed)
        self.register_buffer("buckets", buckets)
        self.register_buffer("signs", signs)
        self.register_buffer("reachable", reachable(buckets, self.out_features), persistent=False)

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        return options.get("sketch", defaults(SketchOptions)["sketch"])

    def pool(self, x: Tensor) -> Tensor:
        with outside_autocast(x):
            X, offset = bounded(x, compute_dtype(x, self.precision, "float32"))
            sketch = tensor_sketch(X.mT / X.shape[2] ** 0.5, self.buckets, self.signs, self.pooled_features)
            return signed_root(sketch * self.reachable, offset).to(output_dtype(x))

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.reachable = reachable(self.buckets, self.pooled_features)


HEADS.add(
    "compact_bilinear",
    HeadKind(CompactBilinear, takes=("precision",), options=SketchOptions),
    summary="tensor sketch of X X^T, signed root, l2 norm",
    paper="Gao et al., CVPR 2016",
)


@dataclass(frozen=True)
class FactorOptions:
    """Number of factors, and the seed of their start."""

    factors: int = option(512, "trained factors, one number of the output each", minimum=1, maximum=2**16)
    seed: int = option(0, "seed of the factors at the start", minimum=0, maximum=2**63 - 1)


class LowRankBilinear(Head):
    """mean((U x)^2) for a trained U (factors, d); a 1x1 map is allowed."""

    least_samples = 1
    own_tensors = ("factors.weight",)

    def __init__(
        self,
        in_channels: int,
        dim: int | None = None,
        reduction: str = "conv",
        precision: str | None = None,
        **options: Any,
    ):
        chosen = build(FactorOptions, "low_rank_bilinear", options)
        super().__init__(in_channels, dim, reduction, factors=chosen.factors)
        self.precision = precision
        weight = torch.randn(chosen.factors, self.channels, 1, 1, generator=torch.Generator().manual_seed(chosen.seed))
        with torch.device("meta"):  # no random number is drawn
            self.factors = nn.Conv2d(self.channels, chosen.factors, 1, bias=False)
        self.factors.weight = nn.Parameter(weight / self.channels**0.5)

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        return options.get("factors", defaults(FactorOptions)["factors"])

    def pool(self, x: Tensor) -> Tensor:
        with outside_autocast(x):
            X, offset = bounded(x, compute_dtype(x, self.precision, "float32"))
            projected = self.factors.weight.flatten(1).to(X.dtype) @ X
            return signed_root(projected.square().mean(2), offset).to(output_dtype(x))


HEADS.add(
    "low_rank_bilinear",
    HeadKind(LowRankBilinear, takes=("precision",), options=FactorOptions),
    summary="trained rank-one factors of X X^T, signed root, l2 norm",
    paper="Kong and Fowlkes, CVPR 2017",
)
