"""The layer that reduces channels before a head: 1x1 convolution, batch norm, ReLU, initialised as published."""

import torch
from torch import Tensor, nn

from gcp.errors import OptionError, ShapeError, suggest

REDUCTIONS = ("conv",)


class Reduction(nn.Sequential):
    """(B, C, H, W) -> (B, dim, H, W); Kaiming initialisation by fan-out, as in the published heads."""

    def __init__(self, in_channels: int, dim: int):
        conv = nn.Conv2d(in_channels, dim, 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(conv, nn.BatchNorm2d(dim), nn.ReLU(inplace=True))

    @property
    def conv(self) -> nn.Conv2d:
        """The 1x1 convolution."""
        layer = self[0]
        assert isinstance(layer, nn.Conv2d)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        weights = next(self.parameters()).dtype
        if x.dtype in (torch.bfloat16, torch.float16) and not torch.is_autocast_enabled(x.device.type):
            x = x.to(weights)  # of a backbone that ran under autocast
        elif torch.promote_types(x.dtype, weights) != weights:
            raise ShapeError(
                f"features are {x.dtype}, the reduction is {weights}: convert one, head.double() or x.float()."
            )
        return super().forward(x)


def check_reduction(reduction: str) -> None:
    """Raise OptionError for an unknown reduction."""
    if reduction not in REDUCTIONS:
        raise OptionError(
            f"reduction is {reduction!r}; allowed: {', '.join(REDUCTIONS)}.{suggest(str(reduction), REDUCTIONS)}"
        )


def create_reduction(reduction: str, in_channels: int, dim: int | None) -> nn.Module:
    """The reduction to `dim` channels, or the identity where `dim` is None."""
    check_reduction(reduction)
    return nn.Identity() if dim is None else Reduction(in_channels, dim)
