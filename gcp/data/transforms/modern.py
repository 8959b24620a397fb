"""Stronger augmentation of recent recipes: RandAugment and random erasing after the crop.

RandAugment (Cubuk et al. 2020) is timm's, of its usual setting; random erasing (Zhong et al. 2020) paints a
rectangle of a fiftieth to a third of the area in the mean colour. Both draw from generators that the image's seed sets.

`randaugment`, `trivial` and `auto` are known policies after a gentle crop. A strength from 0 to 1 is given behind the
name, as data.transform=randaugment:0.5:

    randaugment  two operations of the greatest magnitude times the strength (0.3, which is 9 of 30); Cubuk et al. 2020
    trivial      one operation of any magnitude, in that share of the images (1); Mueller and Hutter, ICCV 2021
    auto         a pair of operations learned on ImageNet, in that share of the images (1); Cubuk et al., CVPR 2019

The operations are torchvision's. What they uncover has the mean colour.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from gcp.data.transforms.base import OWN, TRANSFORMS, PerImage, Preprocessing, statistics
from gcp.data.transforms.crops import centre_of_short_side, compose

RAND_AUGMENT = "rand-m9-mstd0.5-inc1"
ERASED = 0.25  # share of the images
# Just below timm's limit of 10, at which posterising leaves 0 bits: a black image, which Pillow 13 refuses.
STRONGEST = 9.999
GENTLE = (0.5, 1.0)  # share of the area that a crop keeps; what tells two species apart may be small


@TRANSFORMS.register("modern", summary="random_resized_crop with RandAugment (m9, mstd 0.5) and random erasing (0.25)")
def modern(image_size: int, in_chans: int, told: Preprocessing = OWN) -> PerImage:
    """The crop of ImageNet, mirror, RandAugment, random erasing; plain part of random_resized_crop."""
    return _modern(image_size, in_chans, (0.08, 1.0), told)


@TRANSFORMS.register("modern_fine_grained", summary="as modern, but a crop keeps at least half of the area")
def modern_fine_grained(image_size: int, in_chans: int, told: Preprocessing = OWN) -> PerImage:
    """As `modern`, with a crop of at least half of the area."""
    return _modern(image_size, in_chans, GENTLE, told)


def _modern(image_size: int, in_chans: int, scale: tuple[float, float], told: Preprocessing) -> PerImage:
    from torchvision.transforms import v2

    colour = tuple(round(255 * mean) for mean in statistics(in_chans, told).mean)
    train = [
        v2.RandomResizedCrop(image_size, scale=scale, interpolation=told.mode),
        v2.RandomHorizontalFlip(),
        RandAugment(colour),
        v2.RandomErasing(ERASED, value=list(colour)),
    ]
    return compose(train, centre_of_short_side(image_size, in_chans, told), in_chans, told)


class RandAugment:
    """timm's RandAugment on (C, h, w) uint8, C of 1 or 3; `colour` fills what rotation and shift uncover."""

    def __init__(self, colour: tuple[int, ...]):
        from PIL.Image import Resampling
        from timm.data.auto_augment import rand_augment_transform

        fill = colour if len(colour) > 1 else colour[0]
        hparams: dict[str, Any] = {"img_mean": fill, "interpolation": Resampling.BILINEAR, "magnitude_max": STRONGEST}
        self.augment = rand_augment_transform(RAND_AUGMENT, hparams)

    def __call__(self, image: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        return functional.pil_to_tensor(self.augment(functional.to_pil_image(image)))


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
