"""Detection of inf and NaN."""

import torch
from torch import Tensor

from gcp.errors import NonFiniteError


def all_finite(x: Tensor) -> Tensor:
    """A bool of shape (): one pass over memory, where `isfinite` takes four; NaN wins in `aminmax`."""
    if x.numel() == 0:
        return torch.ones((), dtype=torch.bool, device=x.device)
    smallest, largest = torch.aminmax(x)
    return torch.isfinite(smallest) & torch.isfinite(largest)


def require_finite(x: Tensor, what: str) -> None:
    """Raise NonFiniteError that names the first sample, in eager mode on the CPU; elsewhere a test would stall."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return
    x = x.detach()
    if not bool(all_finite(x)):
        sample = int((~torch.isfinite(x)).flatten(1).any(1).nonzero()[0])
        raise NonFiniteError(f"{what} {sample} of the batch hold inf or NaN")
