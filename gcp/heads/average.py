r"""First-order pooling: `average`, and its relatives `max`, `avg_max` and `gem`, one number a channel.

    average  mean_M(x)      max  max_M(x)      avg_max  (mean + max) / 2      gem  (mean_M(max(x, 1e-6)^p))^(1/p)

`gem` (Radenovic, Tolias and Chum, TPAMI 2019, arXiv:1711.02512) is the average at p = 1 and comes near the maximum as p
grows; p starts at 3 and is trained with the head. The gradients are exact; that of a maximum is shared by equal
positions, and what `gem` clamps has none. `gem` divides a channel by its maximum before it takes powers, which changes
neither value nor gradient and keeps powers of float32 features in range. A trained exponent is held between 0.1 and 100
in the formula, because the mean is not defined at 0 and overflows below: past a bound the output is that of the bound,
and the gradient there still moves the parameter, so that it can return.

`wide_average`, relu(W mean_M(x) + b) of d(d+1)/2 numbers, is a control in comparisons: the average in front of as large
a classifier as that of a covariance head. It sees all channels; `dim` is that of the head it is compared with.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcp.heads.base import HEADS, Head, HeadKind
from gcp.heads.reduction import create_reduction
from gcp.kernels.triangle import triangle_size
from gcp.ops.numerics import output_dtype, outside_autocast
from gcp.options import option

CLAMP = 1e-6  # least feature of `gem`, as published
EXPONENT = 3.0  # as published
LEAST, MOST = 0.1, 100.0  # of the exponent, at the start and in training


class FirstOrder(Head):
    """One number for each channel of the reduced map, (B, C, H, W) -> (B, C); a 1x1 map is allowed."""

    least_samples = 1
    takes_mean = False

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        return channels


class Average(FirstOrder):
    """Mean over positions, (B, C, H, W) -> (B, C); with `dim` the mean of the reduced map."""

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), dtype=output_dtype(x))


HEADS.add("average", HeadKind(Average), summary="global average pooling (first order)")


class WideAverage(Head):
    """Mean over positions of all channels, expanded to the d(d+1)/2 outputs that a covariance head has with `dim` = d:
    (B, C, H, W) -> (B, d(d+1)/2); without `dim` the plain average (B, C).
    """

    least_samples = 1
    takes_mean = False
    reduces = False
    own_tensors = ("expansion",)

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv"):
        super().__init__(in_channels, None, reduction)
        self.expansion: nn.Module = nn.Identity()
        if dim is not None:
            self.channels, self.out_features = dim, triangle_size(dim)
            with torch.random.fork_rng(devices=[]):
                linear = nn.Linear(in_channels, self.out_features)
                nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            # takes the random numbers that the reduction of another head takes, so that their classifiers begin alike
            create_reduction(reduction, in_channels, dim)
            self.expansion = nn.Sequential(linear, nn.ReLU())

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        return channels

    def pool(self, x: Tensor) -> Tensor:
        with outside_autocast(x):
            return self.expansion(x.mean((2, 3), dtype=output_dtype(x)))


HEADS.add(
    "wide_average",
    HeadKind(WideAverage),
    summary="average pooling expanded to the outputs of a covariance head: the control with an equal classifier",
)


class Max(FirstOrder):
    """Maximum over positions."""

    def pool(self, x: Tensor) -> Tensor:
        return x.amax((2, 3)).to(output_dtype(x))


HEADS.add("max", HeadKind(Max), summary="global maximum pooling (first order)")


class AverageMax(FirstOrder):
    """Mean of average and maximum."""

    def pool(self, x: Tensor) -> Tensor:
        return (x.mean((2, 3), dtype=output_dtype(x)) + x.amax((2, 3)).to(output_dtype(x))) / 2


HEADS.add("avg_max", HeadKind(AverageMax), summary="mean of average and maximum pooling (first order)")


@dataclass(frozen=True)
class GemOptions:
    """The exponent at the start."""

    p: float = option(EXPONENT, "exponent at the start of training", minimum=LEAST, maximum=MOST)
    learn_p: bool = option(True, "train the exponent with the head")


class GeneralisedMean(FirstOrder):
    """(mean of x^p)^(1/p) over positions, p a parameter or, not learned, a buffer."""

    p: Tensor

    own_tensors = ("p",)

    def __init__(
        self,
        in_channels: int,
        dim: int | None = None,
        reduction: str = "conv",
        p: float = EXPONENT,
        learn_p: bool = True,
    ):
        super().__init__(in_channels, dim, reduction)
        start = torch.full((1,), float(p))
        if learn_p:
            self.p = nn.Parameter(start)
        else:
            self.register_buffer("p", start)

    def pool(self, x: Tensor) -> Tensor:
        with outside_autocast(x):
            x = x.to(output_dtype(x)).clamp(min=CLAMP)
            largest, p = x.detach().amax((2, 3), keepdim=True), self.p.to(x.dtype)
            p = p - p.detach() + p.detach().clamp(LEAST, MOST)  # the value is held, the gradient passes
            return largest[:, :, 0, 0] * (x / largest).pow(p).mean((2, 3)).pow(1 / p)


HEADS.add(
    "gem",
    HeadKind(GeneralisedMean, options=GemOptions),
    summary="generalised mean with a trained exponent (first order)",
    paper="Radenovic et al., TPAMI 2019",
)
