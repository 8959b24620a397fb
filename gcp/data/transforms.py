"""From stored images to normalised float32 batches, with and without augmentation."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gcp.data.seeds import preserved, reseed
from gcp.errors import UnknownNameError

# Channel statistics of ImageNet in [0, 1], with which the published backbones were trained; grey: averages.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = (0.449,), (0.226,)
# Resize 256, CenterCrop 224, kept as a ratio at other sizes.
RESIZE_RATIO = 256 / 224


class Transform(Protocol):
    """A batch of stored images to (B, C, S, S) float32; each augmented by its seed, if there are seeds."""

    def __call__(self, images: Any, seeds: np.ndarray | None) -> Tensor: ...


class PerImage:
    """One function for each image: `train` under the seed of the image, `plain` where there are no seeds."""

    def __init__(self, train: Callable[[Any], Tensor], plain: Callable[[Any], Tensor]):
        self.train = train
        self.plain = plain

    def __call__(self, images: Iterable[Any], seeds: np.ndarray | None) -> Tensor:
        if seeds is None:
            return torch.stack([self.plain(image) for image in images])
        with preserved():
            return torch.stack([self._augment(image, seed) for image, seed in zip(images, seeds, strict=True)])

    def _augment(self, image: Any, seed: int) -> Tensor:
        reseed(seed)
        return self.train(image)


class Unaugmented:
    """A transform that ignores the seeds: training sees what evaluation sees."""

    def __init__(self, transform: Transform):
        self.transform = transform

    def __call__(self, images: Any, seeds: np.ndarray | None) -> Tensor:
        return self.transform(images, None)


def imagenet(image_size: int, in_chans: int) -> PerImage:
    """RandomResizedCrop and mirror for training; resize of the short side and centre crop for evaluation."""
    from torchvision.transforms import v2

    statistics = (IMAGENET_MEAN, IMAGENET_STD) if in_chans == 3 else (GREY_MEAN, GREY_STD)
    tail = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*map(list, statistics))]
    train = [v2.RandomResizedCrop(image_size, antialias=True), v2.RandomHorizontalFlip()]
    plain = [v2.Resize(round(image_size * RESIZE_RATIO), antialias=True), v2.CenterCrop(image_size)]
    return PerImage(v2.Compose([*train, *tail]), v2.Compose([*plain, *tail]))


def select(name: str, recipes: Mapping[str, Callable[[], Transform]]) -> Transform:
    """Build the recipe of that name; "none" is the default recipe without augmentation.

    Raises UnknownNameError for a name that is neither.
    """
    if name == "none":
        return Unaugmented(recipes["default"]())
    if name not in recipes:
        raise UnknownNameError("transform", name, [*recipes, "none"])
    return recipes[name]()
