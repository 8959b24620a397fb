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


def condition_number(x: Tensor) -> float:
    """Median over the batch of the largest over the smallest non-zero eigenvalue of the covariance of x."""
    X = x.detach().flatten(2).double()
    X = X - X.mean(2, keepdim=True)
    d, M = X.shape[1:]
    small_map = d >= M
    eigenvalues = torch.linalg.eigvalsh(X.mT @ X if small_map else X @ X.mT)
    first = min(1, M - 1) if small_map else 0  # a centred Gram matrix has one null vector
    return float((eigenvalues[:, -1] / eigenvalues[:, first]).median())
