"""Bits per dimension, as the objective of a training and as the score of a split.

The model, or any other function, gives the log-density of images in nats, (B, C, H, W) -> (B,); see
`gcp.flow.glow` for the unit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import fsum

import torch
from torch import Tensor

from gcp.engine.device import BatchSource, ToDevice
from gcp.engine.distributed import ALONE, Group
from gcp.engine.evaluate import in_place
from gcp.engine.metrics import LIKELIHOOD
from gcp.errors import NonFiniteError
from gcp.flow import bits_per_dimension


@dataclass(frozen=True)
class Bits:
    """Bits per dimension of log-densities (B,); nothing is counted beside.

    Attributes:
        dimensions: numbers in an image.
        levels: its grey levels.
    """

    dimensions: int
    levels: int
    remedy = "set optim.clip, or set flow.coupling=additive"
    table = LIKELIHOOD

    def of(self, log_density: Tensor) -> Tensor:
        """(B,) of log-densities (B,)."""
        return bits_per_dimension(log_density, self.dimensions, self.levels)

    def __call__(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        bits = self.of(outputs).sum()
        return bits, torch.zeros_like(bits.detach())

    def columns(self, loss: float, counted: float, validation: dict) -> dict:
        """Bits per dimension."""
        return {"train_bits": loss, "val_bits": validation.get("loss")}

    def text(self, loss: float, counted: float) -> str:
        """Bits per dimension."""
        return f"{loss:.4f} bits per dimension"


def evaluate_bits(
    log_density: Callable[[Tensor], Tensor], loader: BatchSource, device: torch.device, bits: Bits, group: Group = ALONE
) -> dict:
    """`image_bits` of a split in numbers: see `summary`."""
    return summary(image_bits(log_density, loader, device, bits, group))


@torch.no_grad()
def image_bits(
    log_density: Callable[[Tensor], Tensor], loader: BatchSource, device: torch.device, bits: Bits, group: Group = ALONE
) -> Tensor:
    """Bits per dimension of each image of a split (N,), float64, on the CPU: the same for any number of processes.

    Raises:
        NonFiniteError: a density that is not finite.
    """
    to_device = ToDevice(device, loader.normalize)
    found = torch.zeros(sum(map(loader.size, range(len(loader)))), dtype=torch.float64, device=device)
    for _, own, (images, labels) in in_place(loader):
        group.heartbeat()
        found[own] = bits.of(log_density(to_device(images, labels)[0])).double()
    found = group.sum(found).cpu()
    if bad := int((~torch.isfinite(found)).sum()):
        raise NonFiniteError(f"evaluation: {bad} of {len(found)} images have a density that is not finite")
    return found


def summary(found: Tensor) -> dict:
    """Of the bits per dimension of images (N,): `loss`, the mean; `error`, its standard error over the images, None
    of a single one; `count`, N.
    """
    error = found.std().item() / len(found) ** 0.5 if len(found) > 1 else None
    return {"loss": fsum(found.tolist()) / len(found), "error": error, "count": len(found)}
