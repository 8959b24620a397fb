"""The views of an image whose logits are averaged.

    one      the image as its data set's transform leaves it
    mirror   it and its mirror image, as the published fine-grained evaluations do
    ten      the four corners and the centre of the image at 256/224 of the side, and their mirrors: Krizhevsky,
             Sutskever and Hinton, NeurIPS 2012, section 4.1

The mean is taken of the logits, before the softmax.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gcp.data import ImageSet, StreamSet
from gcp.data.normalize import Normalizer
from gcp.data.transforms import Transform, Unaugmented
from gcp.data.transforms.crops import RESIZE_RATIO
from gcp.errors import OptionError, suggest

CROPS = ("one", "mirror", "ten")


def check_crops(crops: str) -> None:
    """Raise OptionError unless `crops` is one of CROPS."""
    if crops not in CROPS:
        raise OptionError(f"crops is {crops!r}; allowed: {', '.join(CROPS)}.{suggest(str(crops), CROPS)}")


class TenCrops:
    """Stored images to the views of which `average_logits` makes ten crops, (B, 6, C, S, S): corners and centre of a
    resized image, and the centre of its mirror image, mirrored back.

    The last differs from the centre by a pixel where the sides differ by an odd number: as in torchvision's ten_crop
    the image is mirrored before it is cut. The shorter side becomes 256/224 of S. Where the data set's own transform
    squeezes an image to a square, both do.
    """

    def __init__(self, transform: Transform, image_size: int):
        from torchvision.transforms import v2

        plain = transform.transform if isinstance(transform, Unaugmented) else transform
        steps = getattr(getattr(plain, "plain", None), "transforms", None)
        side = round(image_size * RESIZE_RATIO)
        squeezes = any(isinstance(step, v2.Resize) and len(step.size) == 2 for step in steps or ())
        # A transform of another kind prepares whole batches in memory; its square image is resized instead.
        self.prepare = None if steps else plain
        self.resize, self.image_size = v2.Resize((side, side) if squeezes else side), image_size
        self.normalize: Normalizer = transform.normalize

    def __call__(self, images: Any, seeds: np.ndarray | None) -> Tensor:
        if self.prepare is not None:
            images = self.prepare(images, None)
        return torch.stack([torch.stack(self._cut(self.resize(image))) for image in images])

    def _cut(self, image: Tensor) -> list[Tensor]:
        from torchvision.transforms.v2 import functional

        size = [self.image_size, self.image_size]
        return [*functional.five_crop(image, size), functional.center_crop(image.flip(-1), size).flip(-1)]


def with_crops(images: ImageSet | StreamSet, crops: str, image_size: int) -> ImageSet | StreamSet:
    """The same images, read as `average_logits` needs them for `crops`.

    Args:
        images: a split whose transform gives square images.
        crops: of CROPS.
        image_size: side of a crop.
    """
    check_crops(crops)
    return with_transform(images, lambda transform: TenCrops(transform, image_size)) if crops == "ten" else images


def with_transform(
    images: ImageSet | StreamSet, change: Callable[[Transform], Transform]
) -> ImageSet | StreamSet:  # fmt: skip
    """The same images through another transform, which `change` makes of their own."""
    changed: Any = copy.copy(images)
    changed.transform = change(changed.transform)
    return changed


def average_logits(model: nn.Module, views: list[Tensor], crops: str) -> Tensor:
    """Mean logits (B, num_classes) over views (B, C, H, W) each, and over their mirrors unless `crops` is "one"; "ten"
    takes those of TenCrops.

    One view goes through the model at a time, in as much memory as one crop takes. Half precision is averaged in
    float32.
    """
    if crops != "one":
        straight, mirrored = (views[:5], [*views[:4], views[5]]) if crops == "ten" else (views, views)
        views = [each for view, other in zip(straight, mirrored, strict=True) for each in (view, other.flip(3))]
    logits = [model(view) for view in views]
    logits = [each.float() if each.dtype in (torch.bfloat16, torch.float16) else each for each in logits]
    return logits[0] if len(logits) == 1 else torch.stack(logits).mean(0)
