"""Channel statistics, and their application on the device that computes.

    y = (x - mean) / std      with x in [0, 1]; a byte is x = byte / 255

A batch of bytes crosses to the device in a quarter of the time that its floats would take.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gcp.errors import OptionError, ShapeError

# What the transforms of a data set leave to the device; `Normalize` everywhere but in tests.
Normalizer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Normalize:
    """Mean and standard deviation of each channel, for values in [0, 1].

    Raises OptionError unless both have the same length of at least one and every deviation is positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise OptionError(
                "Normalize takes one mean and one positive standard deviation per channel; "
                f"got mean {self.mean!r} and std {self.std!r}."
            )

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or floating point in [0, 1], to float32 on the same device in the same memory order.

        The input stays as it is. Raises ShapeError for another type, or channels other than those of `mean`.
        """
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ShapeError(f"images to normalise are uint8 or floating point; got {images.dtype}.")
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ShapeError(f"images to normalise have shape (B, {len(self.mean)}, H, W); got {tuple(images.shape)}.")
        mean, std = _constants(self, images.device, 255.0 if images.dtype == torch.uint8 else 1.0)
        return images.sub(mean).div_(std).to(torch.float32)


@lru_cache(maxsize=64)
def _constants(normalize: Normalize, device: torch.device, scale: float) -> tuple[Tensor, Tensor]:
    """Mean and deviation times `scale`, (1, C, 1, 1) float32. Kept: a copy to a GPU would wait for it."""
    with torch.inference_mode(False):  # they serve training too, whoever asked first
        values = torch.tensor([normalize.mean, normalize.std], dtype=torch.float64) * scale
        mean, std = values.to(device, torch.float32).view(2, 1, -1, 1, 1)
    return mean, std
