"""What calibration data say of the layers: second moments of inputs or outputs, summed in float64.

A layer W (m, n) needs one symmetric matrix on its smaller side: of its outputs where m <= n, else of its inputs.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gcp.compress.factored import Factored

# share of E|v|^2 below which a variance is rounding: the square of float32's, with room for the sums in float64
CONSTANT = 1e-12


class Statistics:
    """Sums over the positions that one layer saw.

    Attributes:
        inputs, outputs: moments of rows (N, channels) of what it read and wrote; None where no method needs them.
        magnitude: sum of |input| by channel, for `asvd`.
        read, written: positions seen in its inputs and outputs.
        samples: entries of the batches.
    """

    def __init__(self, layer: Any, method: str):
        self.layer, self.method = layer, method
        self.inputs: Moments | None = None
        self.outputs: Moments | None = None
        self.magnitude: Tensor | float = 0.0
        self.read = self.written = self.samples = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in one call."""
        layer = self.layer
        self.samples += x.shape[0]
        self.read += x.numel() // layer.weight.shape[1]
        self.written += y.numel() // layer.weight.shape[0]
        if self.method == "asvd":
            self.magnitude = self.magnitude + rows(layer, x).double().abs().sum(0)
        if self.method == "output_pca":
            if output_side(layer):
                self.outputs = self.outputs or Moments()
                self.outputs.add(rows(layer, y))
            if not output_side(layer) or has_kernel(layer):
                self.inputs = self.inputs or Moments()
                self.inputs.add(rows(layer, x))


class Moments:
    """Count, sum and second moment of rows (N, d)."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.square: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Take in rows (N, d)."""
        values = values.double()
        self.count += len(values)
        self.sum = self.sum + values.sum(0)
        self.square = self.square + values.mT @ values

    def second(self, centred: bool) -> Tensor:
        """E[v v^T] (d, d), or the covariance; zero where what is left of constant values is rounding."""
        assert isinstance(self.sum, Tensor) and isinstance(self.square, Tensor)
        mean = self.sum / self.count
        second = self.square / self.count
        if not centred:
            return second
        covariance = second - torch.outer(mean, mean)
        return torch.where(covariance.trace() > CONSTANT * second.trace(), covariance, 0.0)


class Deviation:
    """Sums over the difference of a layer and its factored form on the same inputs."""

    def __init__(self, layer: Any, new: Factored):
        self.layer, self.new = layer, new
        self.count = 0
        self.energy = self.squared = 0.0
        self.total: Tensor | float = 0.0
        self.shift: Tensor | float = 0.0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in one call."""
        own = rows(self.layer, y).double()
        difference = own - rows(self.layer, self.new(x)).double()
        self.count += len(own)
        self.total = self.total + own.sum(0)
        self.shift = self.shift + difference.sum(0)
        self.energy += own.square().sum().item()
        self.squared += difference.square().sum().item()

    @property
    def mean(self) -> Tensor:
        """Mean difference by channel: what a bias can take back."""
        assert isinstance(self.shift, Tensor)
        return self.shift / self.count

    @property
    def relative(self) -> float:
        """Root of the mean squared difference over that of the outputs, of a layer with a bias about their mean."""
        assert isinstance(self.total, Tensor)
        energy = self.energy
        if self.layer.bias is not None:
            energy -= self.total.square().sum().item() / self.count
        return (self.squared / energy) ** 0.5 if energy > 0 else float(self.squared > 0)


def rows(layer: nn.Module, values: Tensor) -> Tensor:
    """Inputs or outputs of a layer as rows (N, channels)."""
    if isinstance(layer, nn.Conv2d):
        values = values.movedim(-3, -1)
    return values.flatten(0, -2) if values.ndim > 1 else values[None]


def has_kernel(layer: nn.Module) -> bool:
    """Whether the layer looks at more than one position."""
    return isinstance(layer, nn.Conv2d) and layer.weight[0, 0].numel() > 1


def output_side(layer: Any) -> bool:
    """Whether the outputs of a layer are its smaller side; of a kernel wider than 1x1 they are taken for it."""
    return has_kernel(layer) or layer.weight.shape[0] <= layer.weight[0].numel()
