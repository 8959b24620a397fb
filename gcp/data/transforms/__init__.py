"""From stored images to batches of one size, with and without augmentation, by name.

A transform leaves bytes as bytes: what it does is the work of the processes that read, and its `normalize` is
that of the device. Resampling is bilinear with antialiasing, as in the published pipelines, unless the weights of the
model expect another (`Preprocessing`). Every module of this folder is imported here, so a new transform is one new file
that adds itself to TRANSFORMS.
"""

import inspect

from gcp.data.normalize import Normalize
from gcp.data.transforms.base import OWN, TRANSFORMS, PerImage, Preprocessing, Renormalized, Transform, Unaugmented
from gcp.errors import UnknownNameError
from gcp.registry import import_all

import_all(__name__, __path__)

STATISTICS = ("mean", "std")
NOT_CUT = ("square", "resize", "pad_crop")
CUT_IN_ITS_WAY = ("center_crop", "square_crop")

__all__ = [
    "OWN",
    "TRANSFORMS",
    "PerImage",
    "Preprocessing",
    "Renormalized",
    "Transform",
    "Unaugmented",
    "create_transform",
]


def create_transform(name: str, default: str, image_size: int, in_chans: int, told: Preprocessing = OWN) -> Transform:
    """The transform `name` of TRANSFORMS, or "default", or "none": the plain part of the default.

    default: name of the data set's own. image_size: side of the result in pixels. in_chans: 1 or 3. told: what is not
    left to the transform; one of your own that takes no third argument is given the statistics alone.
    Raises UnknownNameError for another name.
    """
    if name == "none":
        return Unaugmented(_create(default, image_size, in_chans, told))
    if name != "default" and name not in TRANSFORMS:
        raise UnknownNameError("transform", name, [*TRANSFORMS, "default", "none"])
    return _create(default if name == "default" else name, image_size, in_chans, told)


def heeded(name: str) -> tuple[str, ...]:
    """What the transform `name` does of a Preprocessing: names of its attributes."""
    if len(inspect.signature(TRANSFORMS[name].obj).parameters) < 3:
        return STATISTICS
    if name in NOT_CUT:
        return (*STATISTICS, "interpolation")
    return (*STATISTICS, "interpolation", "crop_pct", *(() if name in CUT_IN_ITS_WAY else ("crop_mode",)))


def _create(name: str, image_size: int, in_chans: int, told: Preprocessing) -> Transform:
    build = TRANSFORMS[name].obj
    if told == OWN:
        return build(image_size, in_chans)
    if heeded(name) != STATISTICS:
        return build(image_size, in_chans, told)
    own = build(image_size, in_chans)
    return Renormalized(own, told.normalize(own.normalize)) if isinstance(own.normalize, Normalize) else own
