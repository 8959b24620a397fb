"""How the published pipelines cut a square out of a photograph: crop, resize, mirror.

Each adds itself to TRANSFORMS with its part for training and its plain part for evaluation.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from gcp.data.transforms.base import OWN, TRANSFORMS, PerImage, Preprocessing, statistics

# Resize 256, CenterCrop 224, kept as a ratio at other sizes; 512 and 448 have the same one.
RESIZE_RATIO = 256 / 224
# A centre crop sees less of the long side than one width; beyond this many, resizing it is lost work.
_WIDTHS = 8

Steps = Sequence[Callable[[Any], Any]]


def compose(train: Steps, plain: Steps, in_chans: int, told: Preprocessing = OWN) -> PerImage:
    """The transform that does one step after the other."""
    from torchvision.transforms import v2

    return PerImage(v2.Compose(list(train)), v2.Compose(list(plain)), statistics(in_chans, told), told)


def short_side(size: int, image_size: int, told: Preprocessing = OWN) -> Steps:
    """Resize of the short side to `size`, centre crop of `image_size`."""
    from torchvision.transforms import v2

    return [_middle, v2.Resize(size, told.mode), v2.CenterCrop(image_size)]


def resized(image_size: int) -> int:
    """The side to which an image is resized before the centre of `image_size` is cut out."""
    return round(image_size * RESIZE_RATIO)


def centre_of_short_side(image_size: int, in_chans: int, told: Preprocessing) -> Steps:
    """Resize of the short side to 256/224 of the size, CenterCrop; or what is told of the crop, as timm does it."""
    if told.crop_pct is None:
        return short_side(resized(image_size), image_size, told)
    as_timm = AsTimm(image_size, in_chans, told)
    # A squeezed or bordered image is seen whole, so that nothing of a panorama may be left out.
    return [_middle, as_timm] if told.crop_mode == "center" else [as_timm]


class AsTimm:
    """An image (C, h, w) uint8, C of 1 or 3, as timm prepares it for evaluation, normalisation aside.

    It is resized by Pillow: the bytes of torchvision's resizing of a tensor differ by one in half a percent of the
    pixels.
    """

    def __init__(self, image_size: int, in_chans: int, told: Preprocessing):
        from torchvision.transforms import v2

        side, size = math.floor(image_size / (told.crop_pct or 1)), (image_size, image_size)
        self.squeezes = told.crop_mode == "squash"
        self.steps: Steps
        if told.crop_mode == "border":
            from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio

            fill: Any = tuple(round(255 * mean) for mean in statistics(in_chans, told).mean)
            keep = ResizeKeepRatio((side, side), interpolation=told.mode.value, longest=1.0)
            self.steps = [keep, CenterCropOrPad(list(size), fill=fill if in_chans == 3 else fill[0])]
        else:
            self.steps = [v2.Resize((side, side) if self.squeezes else side, told.mode), v2.CenterCrop(size)]

    def __call__(self, image: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        picture: Any = functional.to_pil_image(image)
        for step in self.steps:
            picture = step(picture)
        return functional.pil_to_tensor(picture)


@TRANSFORMS.register(
    "random_resized_crop",
    summary="ImageNet as published: random area and aspect, mirror; centre crop of the resized short side",
    paper="Szegedy et al. 2015, Going deeper with convolutions",
)
def random_resized_crop(image_size: int, in_chans: int, told: Preprocessing = OWN) -> PerImage:
    """RandomResizedCrop, mirror; Resize 256/224 of the short side, CenterCrop."""
    from torchvision.transforms import v2

    train = [v2.RandomResizedCrop(image_size, interpolation=told.mode), v2.RandomHorizontalFlip()]
    return compose(train, centre_of_short_side(image_size, in_chans, told), in_chans, told)


@TRANSFORMS.register("center_crop", summary="CUB as published: short side to the size, centre crop, mirror")
def center_crop(image_size: int, in_chans: int, told: Preprocessing = OWN) -> PerImage:
    """Resize of the short side to the size itself, CenterCrop; in training a mirror."""
    side = image_size if told.crop_pct is None else int(image_size / told.crop_pct)
    return _mirrored(short_side(side, image_size, told), in_chans, told)


@TRANSFORMS.register(
    "square_crop", summary="Aircraft and Dogs as published: squeezed to 512/448 of the size, centre crop, mirror"
)
def square_crop(image_size: int, in_chans: int, told: Preprocessing = OWN) -> PerImage:
    """Resize of both sides, CenterCrop; in training a mirror."""
    from torchvision.transforms import v2

    side = resized(image_size) if told.crop_pct is None else int(image_size / told.crop_pct)
    return _mirrored([v2.Resize((side, side), told.mode), v2.CenterCrop(image_size)], in_chans, told)


@TRANSFORMS.register("square", summary="Cars as published: squeezed to the size, mirror")
def square(image_size: int, in_chans: int, told: Preprocessing = OWN) -> PerImage:
    """Resize of both sides; in training a mirror."""
    from torchvision.transforms import v2

    return _mirrored([v2.Resize((image_size, image_size), told.mode)], in_chans, told)


@TRANSFORMS.register(
    "resize", summary="no augmentation: squeezed to the size; an image of that size stays pixel for pixel"
)
def resize(image_size: int, in_chans: int, told: Preprocessing = OWN) -> PerImage:
    """Resize of both sides, in training as well."""
    from torchvision.transforms import v2

    steps = [v2.Resize((image_size, image_size), told.mode)]
    return compose(steps, steps, in_chans, told)


def _mirrored(plain: Steps, in_chans: int, told: Preprocessing) -> PerImage:
    from torchvision.transforms import v2

    return compose([*plain, v2.RandomHorizontalFlip()], plain, in_chans, told)


def _middle(image: Tensor) -> Tensor:
    """The middle of an image that is many times as long as wide; any other as it is."""
    from torchvision.transforms.v2 import functional

    height, width = image.shape[-2:]
    wanted = min(height, _WIDTHS * width), min(width, _WIDTHS * height)
    return image if wanted == (height, width) else functional.center_crop(image, list(wanted))
