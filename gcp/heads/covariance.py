"""`covariance`: the covariance itself, without a root."""

from typing import Any

from torch import Tensor

from gcp.heads.base import HEADS, Head, HeadKind
from gcp.kernels.triangle import pack, triangle_size
from gcp.ops.covariance import covariance
from gcp.ops.numerics import compute_dtype, output_dtype


class Covariance(Head):
    """triangle(covariance(reduce(x)))."""

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", precision: str | None = None):
        super().__init__(in_channels, dim, reduction)
        self.precision = precision

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        return triangle_size(channels)

    def pool(self, x: Tensor) -> Tensor:
        return pack(covariance(x, compute_dtype(x, self.precision, "float32")), output_dtype(x))


HEADS.add(
    "covariance",
    HeadKind(Covariance, takes=("precision",)),
    summary="covariance without a root",
)
