"""`average`: global average pooling, the first-order baseline."""

from torch import Tensor

from gcp.heads.base import HEADS, Head, HeadKind
from gcp.ops.precision import output_dtype


class Average(Head):
    """Mean over positions, (B, C, H, W) -> (B, C); with `dim` the mean of the reduced map."""

    least_samples = 1

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv"):
        super().__init__(in_channels, dim, reduction)
        self.out_features = self.channels

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), dtype=output_dtype(x))


HEADS.add("average", HeadKind(Average), summary="global average pooling (first order)")
