"""A head of your own: registered in one file, then known by its name to `gcp.create_head` and `gcp.create_model`.

This one pools the mean and the standard deviation of every channel. Run this file for a step of training:

    python examples/own_head.py
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import gcp
from gcp.heads.base import HEADS, Head, HeadKind
from gcp.options import option


@dataclass(frozen=True)
class MeanDeviationOptions:
    """Options are fields with a default, a meaning and bounds, which are checked before anything is built."""

    eps: float = option(1e-5, "added to the variance, so that its root has a gradient at zero", minimum=1e-12)


class MeanDeviation(Head):
    """(B, C, H, W) -> (B, 2 C): means and standard deviations over positions, of the reduced map where `dim` is set."""

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", eps: float = 1e-5):
        super().__init__(in_channels, dim, reduction)
        self.eps = eps

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        """The width of the result, which is asked for before a head is built."""
        return 2 * channels

    def pool(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        return torch.cat([x.mean(2), (x.var(2, unbiased=False) + self.eps).sqrt()], 1)


HEADS.add("mean_deviation", HeadKind(MeanDeviation, options=MeanDeviationOptions), summary="mean and deviation")


def main() -> tuple[float, float]:
    """Train one step and return the loss before and after it."""
    torch.manual_seed(0)
    model = gcp.create_model("resnet8_cifar", head="mean_deviation", num_classes=3, dim=16, eps=1e-4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    images, labels = torch.randn(12, 3, 32, 32), torch.arange(12) % 3
    losses = []
    for _ in range(2):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[1]


if __name__ == "__main__":
    print("loss {:.3f} -> {:.3f}".format(*main()))
