r"""Heads that keep the mean of the features: `second_moment` and `gaussian`.

A covariance is centred, and the mean m of the features, all that average pooling has, is lost. Without centring,

    second_moment   triangle(R^(1/2)),   R = X X^T / M = S + m m^T,   S the covariance
    gaussian        triangle(E^(1/2)),   E = [[S + m m^T, b m], [b m^T, b^2]] = Y Y^T / M,   Y = [X; b 1^T]

E is the embedding of the Gaussian N(m, S) in the positive definite matrices of one more row. Wang, Li and Zhang,
G2DeNet, CVPR 2017. It is the second moment of the features with a constant row b, so both heads are the root of
X X^T / M: every rule, iterative solver, side, form and precision of the root of a covariance holds without the
centring, and dL/dX = (G + G^T) X / M for the gradient G at R.

b = mean_scale r, r a root mean square of features. By default it is that of each map's own (`mean_unit: map`): b is no
state then, it is the same in every process, from the first batch on, in a saved model and in an exported program; the
embedding scales with the features, Q(s X) = s Q(X); and m can be read off E, whose corner is b^2. The gradient goes
through it,

    dL/dX += mean_scale (sum of the row's gradient) X / (d M r),     0 where the map is zero

With `mean_unit: batches`, r is that of the features of the first batches, as published a constant: measured once and
stored (`gcp.heads.first_batches`), 1 before that. With `learn_mean_scale`, mean_scale is trained from its value on.

A map of one position has a second moment (of rank one), unlike a covariance.

Behind a ReLU the mean is by far the largest eigenvalue of R, so the condition number is larger than that of the
covariance. Gradient error against float64 on such features (d = 256, 7x7, 14x14, 28x28): eigendecomposition in float32
2e-6, 2e-3, 6e-4 (the covariance: 1e-6, 4e-5, 7e-6), `polar_express` 1e-6, 2e-4, 3e-6 (1e-6, 2e-5, 2e-6). The default
precision of the eigendecomposition is float64.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcp.gradients import RULES
from gcp.heads.base import HEADS, HeadKind, RootHead
from gcp.heads.root import root_of_options
from gcp.kernels.triangle import triangle_size
from gcp.ops.numerics import compute_dtype, outside_autocast
from gcp.options import option, passed_on
from gcp.solvers import SOLVERS

MEAN_SCALE = 1.0  # the constant row is then as large as an average channel
UNITS = ("map", "batches")


@dataclass(frozen=True)
class RootOptions:
    """How the root is taken; below rule and solver stand the options of theirs, which they check."""

    rule: str = option("exact", "backward rule of the eigendecomposition", choices=RULES)
    solver: str = option("eig", "eigendecomposition with a rule, or iterations", choices=SOLVERS)
    degree: int | None = passed_on("of rule=taylor")
    iterations: int | None = passed_on("of rule=power_iteration, rule=newton, solver=newton_schulz and solver=halley")
    threshold: float | None = passed_on("of rule=truncate")
    keep: float | None = passed_on("of rule=top_n")
    drop: int | None = passed_on("of rule=top_n, in place of keep")
    lower: float | None = passed_on("of solver=polar_express")
    steps: int | None = passed_on("of solver=polar_express")
    products: str | None = passed_on("of solver=newton_schulz and solver=polar_express")
    backward: str | None = passed_on("of solver=mpa and solver=mtp")


class SecondMoment(RootHead):
    """triangle(sqrt(X X^T / M)) of the reduced map; a 1x1 map is allowed."""

    least_samples = 1

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", **options: Any):
        super().__init__(in_channels, dim, reduction)
        self.root = root_of_options(_given(options)).of_second_moment()

    @classmethod
    def check(cls, **options: Any) -> None:
        root_of_options(_given(options))


HEADS.add(
    "second_moment",
    HeadKind(SecondMoment, ("side", "form", "precision"), RootOptions),
    summary="root of X X^T / M, not centred: keeps the mean",
)


@dataclass(frozen=True)
class GaussianOptions(RootOptions):
    """And the weight of the mean beside the covariance."""

    mean_scale: float = option(
        MEAN_SCALE, "constant row b over the root mean square of the features", minimum=1e-3, maximum=1e3
    )
    mean_unit: str = option(
        "map", "features of that root mean square: each map's own, or the first batches', once", choices=UNITS
    )
    learn_mean_scale: bool = option(False, "train mean_scale with the head")


class GaussianEmbedding(SecondMoment):
    """triangle of the root of the Gaussian embedding, (d + 1)(d + 2)/2 numbers; a 1x1 map is allowed."""

    def __init__(
        self,
        in_channels: int,
        dim: int | None = None,
        reduction: str = "conv",
        mean_scale: float = MEAN_SCALE,
        mean_unit: str = "map",
        learn_mean_scale: bool = False,
        **options: Any,
    ):
        super().__init__(in_channels, dim, reduction, **options)
        self.mean_scale: float | nn.Parameter = mean_scale
        if learn_mean_scale:
            self.mean_scale = nn.Parameter(torch.tensor(float(mean_scale)))
            self.mean_scale.no_weight_decay = True  # type: ignore[attr-defined]
        self.register_buffer("unit", torch.ones(()) if mean_unit == "batches" else None)

    @classmethod
    def check(
        cls,
        mean_scale: float = MEAN_SCALE,
        mean_unit: str = "map",
        learn_mean_scale: bool = False,
        **options: Any,
    ) -> None:
        super().check(**options)

    @classmethod
    def tensors(cls, mean_unit: str = "map", learn_mean_scale: bool = False, **options: Any) -> tuple[str, ...]:
        return (*(["mean_scale"] if learn_mean_scale else []), *(["unit"] if mean_unit == "batches" else []))

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        return triangle_size(channels + 1)

    def embed(self, x: Tensor) -> Tensor:
        """(B, d, H, W) -> (B, d + 1, H, W) with the constant row, in the dtype of the output."""
        with outside_autocast(x):
            x = x.to(compute_dtype(x, None, "float32"))
            if self.unit is not None:
                b = (self.mean_scale * self.unit).expand(x.shape[0], 1, 1, 1)  # len is a constant to a tracer
            else:
                # float64: squares of float32 features neither over- nor underflow
                power = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True, dtype=torch.float64)
                b = self.mean_scale / math.sqrt(math.prod(x.shape[1:])) * power
            return torch.cat([x, b.to(x.dtype).expand(-1, 1, *x.shape[2:])], 1)


HEADS.add(
    "gaussian",
    HeadKind(GaussianEmbedding, ("side", "form", "precision"), GaussianOptions),
    summary="root of the Gaussian embedding [[S + m m^T, b m], [b m^T, b^2]]: keeps the mean",
    paper="Wang et al., CVPR 2017",
)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Those that are not left at null."""
    return {key: value for key, value in options.items() if value is not None}
