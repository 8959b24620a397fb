"""Synthetic feature maps with the kind of spectrum that a network's last ReLU leaves."""

import torch
from torch import Tensor

DESCRIPTION = (
    "relu(A z), z standard normal, A = U diag(1, 1/2, ..., 1/d) scaled to unit mean variance, "
    "U random orthogonal, one per batch; positions are independent"
)


def relu_features(batch: int, channels: int, size: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Feature map (batch, channels, size, size) on the CPU, made as `DESCRIPTION` says.

    Drawn in float64 from a generator of its own and rounded to `dtype`.
    """
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    U = torch.linalg.qr(gaussian)[0]
    scales = 1 / torch.arange(1, channels + 1, dtype=torch.float64)
    A = U * scales * (channels / scales.square().sum()).sqrt()
    z = torch.randn(batch, channels, size * size, generator=generator, dtype=torch.float64)
    return torch.relu(A @ z).reshape(batch, channels, size, size).to(dtype)
