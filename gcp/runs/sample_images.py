"""Training images without augmentation, for whatever has to see what a trained model does."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gcp.config import Config
from gcp.data import Splits, StreamSet, create_loader
from gcp.engine.feed import Feed


class SampleImages:
    """`count` training images evenly spread over the split, of a stream the first ones; the same at every pass.

    Iterating gives batches (B, C, H, W) on the device, normalised.
    """

    def __init__(self, config: Config, splits: Splits, device: torch.device, count: int, batch: int):
        images = splits.train
        self.count = count = min(count, len(images))
        if not isinstance(images, StreamSet):
            images = images.subset([place * len(images) // count for place in range(count)])
        self.loader = create_loader(images, min(count, batch), train=False, workers=0)
        self.feed = Feed(device, self.loader.normalize, config.run.channels_last)

    def __iter__(self) -> Iterator[Tensor]:
        left = self.count
        for images, labels in self.loader.epoch(0):
            yield self.feed(images[:left], labels[:left])[0]
            left -= len(images)
            if left <= 0:
                return
