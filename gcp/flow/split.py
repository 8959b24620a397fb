r"""Where numbers leave the flow: what they are expected to be is learned, and taken out.

    e = (z - m) exp(-s)

m and s are convolutions of the channels that stay (`Split`), or parameters of their own at the top (`Prior`). So a
flow is one bijection between an image and numbers e that are independent and standard normal.
"""

import torch
from torch import Tensor, nn

from gcp.flow.coupling import bounded, zero_convolution
from gcp.flow.density import each_sample
from gcp.layers.frame import exempt


class Split(nn.Module):
    """Half of the channels (rounded up) leaves (B, C, H, W); its prior is conditional on the rest."""

    def __init__(self, channels: int):
        super().__init__()
        self.sizes = (channels // 2, channels - channels // 2)
        self.prior = zero_convolution(self.sizes[0], 2 * self.sizes[1])

    def _expected(self, stays: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.prior(stays).chunk(2, dim=1)
        return mean, bounded(raw)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The channels that stay, e of the others, and the log-determinant of each sample (B,)."""
        stays, leaves = x.split(self.sizes, dim=1)
        mean, log_scale = self._expected(stays)
        return stays, (leaves - mean) * (-log_scale).exp(), -log_scale.flatten(1).sum(1)

    def inverse(self, stays: Tensor, e: Tensor) -> Tensor:
        """x of both parts."""
        mean, log_scale = self._expected(stays)
        return torch.cat((stays, e * log_scale.exp() + mean), dim=1)


class Prior(nn.Module):
    """The end of the flow: mean and deviation of each number of (C, H, W)."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(shape))
        self.log_scale = nn.Parameter(torch.zeros(shape))
        exempt(self)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """e, and the log-determinant of each sample (B,)."""
        return (z - self.mean) * (-self.log_scale).exp(), each_sample(-self.log_scale.sum(), z)

    def inverse(self, e: Tensor) -> Tensor:
        """z of e."""
        return e * self.log_scale.exp() + self.mean
