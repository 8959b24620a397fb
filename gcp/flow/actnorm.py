"""Scale and shift of each channel, set by the first batch so that it leaves them with mean 0 and deviation 1.

Glow (Kingma and Dhariwal, NeurIPS 2018), section 3.1. It stands where a batch norm would, and does not depend on the
batch afterwards. That it has been set is part of the checkpoint.
"""

import torch
from torch import Tensor, nn

from gcp.errors import NonFiniteError
from gcp.flow.density import each_sample, positions
from gcp.layers.frame import exempt

LEAST = 1e-6  # of a deviation: below it a channel is constant, and its scale is left at 1


class ActNorm(nn.Module):
    """y = (x + b) exp(s) on the channels of (B, C, H, W); the identity until `initialise`."""

    initialised: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("initialised", torch.tensor(False))
        exempt(self)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set shift and scale by the statistics of x (B, C, H, W).

        Raises:
            NonFiniteError: inf or NaN in x.
        """
        values = x.double().transpose(0, 1).flatten(1)
        mean, deviation = values.mean(1), values.std(1, correction=0)
        if not bool(torch.isfinite(deviation).all()):
            raise NonFiniteError("the images that a flow begins with give inf or NaN")
        scale = torch.where(deviation > LEAST, deviation, 1)
        self.shift.copy_(-mean.view_as(self.shift))
        self.log_scale.copy_(-scale.log().view_as(self.log_scale))
        self.initialised.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y, and the log-determinant of each sample (B,)."""
        return (x + self.shift) * self.log_scale.exp(), each_sample(positions(x) * self.log_scale.sum(), x)

    def inverse(self, y: Tensor) -> Tensor:
        """x of y."""
        return y * (-self.log_scale).exp() - self.shift
