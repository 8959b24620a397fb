"""A few images of a split without augmentation, on which callbacks measure a model."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gcp.data import ImageSet, StreamSet, create_loader
from gcp.engine.device import ToDevice


class SampleImages:
    """`count` images evenly spread over a split, of a stream the first ones; the same at every pass.

    Iterating gives batches (B, C, H, W) on the device, normalised.
    """

    def __init__(
        self, images: ImageSet | StreamSet, count: int, batch: int, device: torch.device, channels_last: bool = False
    ):
        self.count = count = min(count, len(images))
        if not isinstance(images, StreamSet):
            images = images.subset([place * len(images) // count for place in range(count)])
        self.loader = create_loader(images, min(count, batch), train=False, workers=0)
        self.to_device = ToDevice(device, self.loader.normalize, channels_last)

    def __iter__(self) -> Iterator[Tensor]:
        left = self.count
        for images, labels in self.loader.epoch(0):
            yield self.to_device(images[:left], labels[:left])[0]
            left -= len(images)
            if left <= 0:
                return
