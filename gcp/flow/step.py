"""One step of Glow: actnorm, invertible 1x1 convolution, coupling."""

from typing import Any

from torch import Tensor, nn

from gcp.flow.actnorm import ActNorm
from gcp.flow.coupling import Coupling
from gcp.layers.invertible import InvertibleConv1x1


class Step(nn.Module):
    """(B, C, H, W) -> the same shape.

    Args:
        channels: C.
        width, coupling, dropout: of the coupling, see `Coupling`.
        form: of the 1x1 convolution, see `InvertibleConv1x1`.
        **options: of the form.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        form: str = "svd",
        coupling: str = "affine",
        dropout: float = 0.0,
        **options: Any,
    ):
        super().__init__()
        self.norm = ActNorm(channels)
        self.convolution = InvertibleConv1x1(channels, form, **options)
        self.coupling = Coupling(channels, width, coupling, dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y, and the log-determinant of each sample (B,)."""
        x, first = self.norm(x)
        x, second = self.convolution(x)
        x, third = self.coupling(x)
        return x, first + second + third

    def inverse(self, y: Tensor) -> Tensor:
        """x of y."""
        return self.norm.inverse(self.convolution.inverse(self.coupling.inverse(y)))
