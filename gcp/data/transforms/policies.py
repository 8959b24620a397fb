"""Augmentation by known policies after a gentle crop, each with a strength: `randaugment`, `trivial`, `auto`.

A strength from 0 to 1 is given behind the name, as data.transform=randaugment:0.5:

    randaugment  two operations of the greatest magnitude times the strength (0.3, which is 9 of 30); Cubuk et al. 2020
    trivial      one operation of any magnitude, in that share of the images (1); Mueller and Hutter, ICCV 2021
    auto         a pair of operations learned on ImageNet, in that share of the images (1); Cubuk et al., CVPR 2019

The operations are torchvision's. What they uncover has the mean colour.
"""

from collections.abc import Callable
from typing import Any

from gcp.data.transforms.base import OWN, TRANSFORMS, PerImage, Preprocessing, statistics
from gcp.data.transforms.crops import centre_of_short_side, compose

CROP = (0.35, 1.0)  # share of the area that is kept: few images leave little to invent
BINS = 31


@TRANSFORMS.register(
    "randaugment", summary="gentle crop, mirror, two random operations; randaugment:STRENGTH, 0 to 1 (0.3)"
)
def randaugment(image_size: int, in_chans: int, told: Preprocessing = OWN, *, strength: float = 0.3) -> PerImage:
    """RandomResizedCrop, mirror, RandAugment; plain part of random_resized_crop."""
    from torchvision.transforms import v2

    magnitude = round(strength * (BINS - 1))
    return _with(lambda **way: v2.RandAugment(2, magnitude, BINS, **way), image_size, in_chans, told, 1.0)


@TRANSFORMS.register(
    "trivial", summary="gentle crop, mirror, one random operation; trivial:STRENGTH, the share of images, 0 to 1 (1)"
)
def trivial(image_size: int, in_chans: int, told: Preprocessing = OWN, *, strength: float = 1.0) -> PerImage:
    """RandomResizedCrop, mirror, TrivialAugment (wide); plain part of random_resized_crop."""
    from torchvision.transforms import v2

    return _with(v2.TrivialAugmentWide, image_size, in_chans, told, strength)


@TRANSFORMS.register(
    "auto", summary="gentle crop, mirror, AutoAugment of ImageNet; auto:STRENGTH, the share of images, 0 to 1 (1)"
)
def auto(image_size: int, in_chans: int, told: Preprocessing = OWN, *, strength: float = 1.0) -> PerImage:
    """RandomResizedCrop, mirror, AutoAugment; plain part of random_resized_crop."""
    from torchvision.transforms import v2

    return _with(v2.AutoAugment, image_size, in_chans, told, strength)


def _with(
    policy: Callable[..., Any], image_size: int, in_chans: int, told: Preprocessing, share: float
) -> PerImage:  # fmt: skip
    from torchvision.transforms import v2

    colour = [round(255 * mean) for mean in statistics(in_chans, told).mean]
    train = [
        v2.RandomResizedCrop(image_size, scale=CROP, interpolation=told.mode),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([policy(interpolation=v2.InterpolationMode.BILINEAR, fill=colour)], share),
    ]
    return compose(train, centre_of_short_side(image_size, in_chans, told), in_chans, told)
