"""`average`: global average pooling, the first-order baseline."""

from typing import Any

from torch import Tensor

from gcp.heads.base import HEADS, Head, HeadKind
from gcp.ops.numerics import output_dtype


class Average(Head):
    """Mean over positions, (B, C, H, W) -> (B, C); with `dim` the mean of the reduced map."""

    least_samples = 1

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        return channels

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), dtype=output_dtype(x))


HEADS.add("average", HeadKind(Average), summary="global average pooling (first order)")
