"""`covariance`: the covariance itself, without a root."""

from torch import Tensor

from gcp.heads.base import HEADS, Head, HeadKind
from gcp.kernels import pack
from gcp.ops.covariance import covariance
from gcp.ops.precision import check_precision, compute_dtype, output_dtype
from gcp.ops.triangle import triangle_size


class Covariance(Head):
    """triangle(covariance(reduce(x)))."""

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", precision: str | None = None):
        check_precision(precision)
        super().__init__(in_channels, dim, reduction)
        self.precision = precision
        self.out_features = triangle_size(self.channels)

    def pool(self, x: Tensor) -> Tensor:
        return pack(covariance(x, compute_dtype(x, self.precision, "float32")), output_dtype(x))


HEADS.add(
    "covariance",
    HeadKind(Covariance, takes=("precision",)),
    summary="covariance without a root",
)
