"""Pad, crop, mirror: the augmentation of CIFAR (He et al. 2016), on whole batches of bytes."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gcp.data.normalize import Normalize
from gcp.data.seeds import uniform
from gcp.data.transforms.base import OWN, TRANSFORMS, Preprocessing, statistics

# 4 of 32 pixels, kept as a ratio at other sizes.
PADDING = 4 / 32


class PadCrop:
    """A black border, a window of the old size, a mirror for one image of two; other sizes are resized first."""

    def __init__(self, image_size: int, normalize: Normalize, told: Preprocessing = OWN):
        self.image_size, self.mode = image_size, told.mode
        self.padding = round(image_size * PADDING)
        self.normalize = normalize

    def __call__(self, images: Iterable[Tensor] | Tensor, seeds: np.ndarray | None) -> Tensor:
        """(B, C, h, w) uint8, or B images (C, h, w), to (B, C, S, S) uint8."""
        batch = self._resize(images)
        if seeds is None:
            return batch
        size, places = self.image_size, 2 * self.padding + 1
        top, left = (torch.from_numpy((places * uniform(seeds, key)).astype(np.int64)) for key in (0, 1))
        mirrored = torch.from_numpy(uniform(seeds, 2) < 0.5)
        windows = F.pad(batch, [self.padding] * 4).unfold(2, size, 1).unfold(3, size, 1)
        cropped = windows[torch.arange(len(batch)), :, top, left]
        return torch.where(mirrored.view(-1, 1, 1, 1), cropped.flip(3), cropped)

    def _resize(self, images: Iterable[Tensor] | Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        size = [self.image_size, self.image_size]
        if isinstance(images, Tensor):
            return functional.resize(images, size, self.mode)
        return torch.stack([functional.resize(image, size, self.mode) for image in images])


@TRANSFORMS.register(
    "pad_crop", summary="CIFAR as published: 4 pixels of black around 32, crop, mirror", paper="He et al. 2016"
)
def pad_crop(image_size: int, in_chans: int, told: Preprocessing = OWN) -> PadCrop:
    """Padding of an eighth of the size, crop, mirror; the plain part resizes where the size differs."""
    return PadCrop(image_size, statistics(in_chans, told), told)
