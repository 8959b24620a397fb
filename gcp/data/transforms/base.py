"""What a transform is, how one function per image becomes one, and the registry of those that have a name."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gcp.data.normalize import Normalize, Normalizer
from gcp.data.seeds import preserved, reseed
from gcp.registry import Registry

# With which the published backbones were trained; grey: averages.
IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY = Normalize((0.449,), (0.226,))


class Transform(Protocol):
    """Stored images to (B, C, S, S) uint8, or floating point in [0, 1]; each augmented by its seed, if there are
    seeds (B,) uint64, and by nothing else.
    """

    @property
    def normalize(self) -> Normalizer: ...

    def __call__(self, images: Any, seeds: np.ndarray | None) -> Tensor: ...


class PerImage:
    """One function for each image (C, h, w): `train` under the seed of the image, `plain` where there are no seeds."""

    def __init__(
        self, train: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor], normalize: Normalizer = IMAGENET
    ):
        self.train = train
        self.plain = plain
        self.normalize = normalize

    def __call__(self, images: Iterable[Tensor] | Tensor, seeds: np.ndarray | None) -> Tensor:
        if seeds is None:
            return torch.stack([self.plain(image) for image in images])
        with preserved():
            return torch.stack([self._augment(image, seed) for image, seed in zip(images, seeds, strict=True)])

    def _augment(self, image: Tensor, seed: int) -> Tensor:
        reseed(seed)
        return self.train(image)


class Unaugmented:
    """A transform that ignores the seeds: training sees what evaluation sees."""

    def __init__(self, transform: Transform):
        self.transform = transform
        self.normalize = transform.normalize

    def __call__(self, images: Any, seeds: np.ndarray | None) -> Tensor:
        return self.transform(images, None)


# Each builds the transform for images of a side and a number of channels: f(image_size, in_chans).
TRANSFORMS: Registry[Callable[[int, int], Transform]] = Registry("transform")


def statistics(in_chans: int) -> Normalize:
    """Channel statistics of ImageNet, for RGB or grey."""
    return IMAGENET if in_chans == 3 else GREY
