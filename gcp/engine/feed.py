"""From a batch of the loader to the input of the model, in training, evaluation and diagnosis alike.

bytes -> device -> memory order -> normalised -> mixed
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.engine.loader import Batch


@dataclass(frozen=True)
class ToDevice:
    """Brings batches to the device; every call with the same arguments gives the same result.

    Attributes:
        device: where the model computes.
        normalize: of the loader.
        channels_last: memory order of the result.
        mixup: alpha of mixup, 0 for none.
        cutmix: alpha of CutMix, 0 for none.
        num_classes: width of mixed labels.
        leading: a batch begins with the image before it, with which its first is mixed (`gcp.data.rank_slice`).
    """

    device: torch.device
    normalize: Callable[[Tensor], Tensor]
    channels_last: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    num_classes: int = 0
    leading: bool = False

    @property
    def mixes(self) -> bool:
        """Whether images are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def __call__(self, images: Tensor, labels: Tensor, seed: int | None = None) -> Batch:
        """Images and labels on the device. With a `seed` they are mixed, if there is an alpha: then labels are
        (B, num_classes), else (B,) as they came. Nothing waits for the device where memory is pinned.
        """
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        images, labels = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        images = self.normalize(images.contiguous(memory_format=order))  # a byte is cheaper to move than its float
        if seed is not None and self.mixes:
            from gcp.data.mix import mix

            images, labels = mix(images, labels, self.num_classes, self.mixup, self.cutmix, seed)
        if self.leading:
            images, labels = images[1:], labels[1:]
        return images.contiguous(memory_format=order), labels
