r"""Coupling: half of the channels moves the other half, by a network that need not be invertible.

    x = (a, b),    y = (a, (b + t(a)) exp(s(a))),    log-determinant = sum of s(a)

(Dinh et al., ICLR 2017; NICE without s, 2015). The last layer of the network starts at zero, so that the coupling
starts as the identity. s stays within -2 and 2, which bounds what rounding an inverse can lose.
"""

import torch
from torch import Tensor, nn

from gcp.errors import OptionError, UnknownNameError

LIMIT = 2.0  # greatest |s|
COUPLINGS = ("affine", "additive")


def bounded(raw: Tensor) -> Tensor:
    """`raw` where it is small, within -LIMIT and LIMIT everywhere."""
    return LIMIT * torch.tanh(raw / LIMIT)


def zero_convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that starts at zero."""
    made = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.zeros_(made.weight)
    nn.init.zeros_(made.bias)  # type: ignore[arg-type]
    return made


class Coupling(nn.Module):
    """The first half of the channels (rounded down) moves the rest of (B, C, H, W), C >= 2.

    Args:
        channels: C.
        width: channels of the two hidden layers.
        kind: `affine`, or `additive`, without s.
        dropout: before the last layer of the network. An inverse undoes a forward pass in eval mode only.

    Raises:
        OptionError: fewer than two channels; UnknownNameError: another kind.
    """

    def __init__(self, channels: int, width: int, kind: str = "affine", dropout: float = 0.0):
        super().__init__()
        if kind not in COUPLINGS:
            raise UnknownNameError("coupling", kind, COUPLINGS)
        if channels < 2:
            raise OptionError(f"a coupling needs at least two channels, got {channels}.")
        self.sizes, self.affine = (channels // 2, channels - channels // 2), kind == "affine"
        kept, moved = self.sizes
        self.network = nn.Sequential(
            nn.Conv2d(kept, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
            nn.Dropout(dropout),
            zero_convolution(width, 2 * moved if self.affine else moved),
        )

    def _motion(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """t and s."""
        out = self.network(kept)
        if not self.affine:
            return out, torch.zeros_like(out)
        shift, raw = out.chunk(2, dim=1)
        return shift, bounded(raw)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y, and the log-determinant of each sample (B,)."""
        kept, moved = x.split(self.sizes, dim=1)
        shift, log_scale = self._motion(kept)
        return torch.cat((kept, (moved + shift) * log_scale.exp()), dim=1), log_scale.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """x of y."""
        kept, moved = y.split(self.sizes, dim=1)
        shift, log_scale = self._motion(kept)
        return torch.cat((kept, moved * (-log_scale).exp() - shift), dim=1)
