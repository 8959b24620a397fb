r"""Discrete images as continuous ones, for models of their density: y = (level + u) / n, u uniform in [0, 1).

Grey levels are 0 .. n-1, n a fact of the data set (`Source.levels`): 17 in the digits, 256 where images are bytes. u is
a function of the seed that the loader gives a sample, and without one (in evaluation) of its index: a run that is
resumed meets the same noise, and so does any number of processes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gcp.data.images import ImageSet
from gcp.data.normalize import Normalize
from gcp.data.seeds import NOISE, hashed

BITS = 16  # of the noise: a level and its noise are exact in float32, and never round up to the next level


class Dequantised(ImageSet):
    """An ImageSet of `images` with noise, (B, C, S, S) float32 in [0, 1); `normalize` moves it to [-1/2, 1/2).

    Without a seed the noise of an image is that of its place, in a subset that of its new one.

    Args:
        images: a split whose transform gives bytes, or levels / (n - 1) in [0, 1]; what lies between two levels,
            after resampling, is rounded.
        levels: n.
        channels: of the images.
    """

    def __init__(self, images: ImageSet, levels: int, channels: int):
        super().__init__(images.labels, images.transform)
        self.images, self.levels, self.channels = images, levels, channels
        self.paths, self.in_memory = images.paths, images.in_memory

    @property
    def normalize(self) -> Normalize:
        """From [0, 1) to [-1/2, 1/2), whatever the images would be normalised with."""
        return Normalize((0.5,) * self.channels, (1.0,) * self.channels)

    def read(self, indices: Sequence[int] | np.ndarray, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """A batch; see ImageSet.read."""
        images, labels = self.images.read(indices, seeds)
        keys = np.asarray(indices) if seeds is None else seeds
        levels = quantise(images, self.levels)
        return (levels + noise(keys, seeds is not None, levels[0].numel()).view_as(levels)) / self.levels, labels

    def _restrict(self, places: np.ndarray) -> None:
        self.images = self.images.subset(places)
        self.paths = self.images.paths


def quantise(images: Tensor, levels: int) -> Tensor:
    """Grey levels 0 .. levels - 1, float32, of bytes or of numbers in [0, 1]."""
    unit = images.float() / 255 if images.dtype == torch.uint8 else images
    return (unit * (levels - 1)).round().clamp(0, levels - 1)


def levels_of(images: Tensor, levels: int) -> Tensor:
    """Grey levels 0 .. levels - 1, float32, of noisy images in [0, 1); what lies outside goes to the nearest end."""
    return (images * levels).floor().clamp(0, levels - 1)


def noise(keys: np.ndarray, seeded: bool, count: int) -> Tensor:
    """Uniform numbers in (0, 1), (B, count) float32, of the keys (B,); seeds and indices have streams of their own."""
    bits = hashed(NOISE, int(seeded), keys[:, None], np.arange(count)) >> np.uint64(64 - BITS)
    return torch.from_numpy(((bits.astype(np.float64) + 0.5) * 2.0**-BITS).astype(np.float32))
