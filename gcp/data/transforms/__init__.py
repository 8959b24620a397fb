"""From stored images to batches of one size, with and without augmentation, by name.

A transform leaves bytes as bytes: what it does is the work of the processes that read, and its `normalize` is
that of the device. Resampling is bilinear with antialiasing, as in the published pipelines. Every module of this
folder is imported here, so a new transform is one new file that adds itself to TRANSFORMS.
"""

from gcp.data.transforms.base import TRANSFORMS, PerImage, Transform, Unaugmented
from gcp.errors import UnknownNameError
from gcp.registry import import_all

import_all(__name__, __path__)

__all__ = ["TRANSFORMS", "PerImage", "Transform", "Unaugmented", "create_transform"]


def create_transform(name: str, default: str, image_size: int, in_chans: int) -> Transform:
    """The transform `name` of TRANSFORMS, or "default", or "none": the plain part of the default.

    default: name of the data set's own. image_size: side of the result in pixels. in_chans: 1 or 3.
    Raises UnknownNameError for another name.
    """
    if name == "none":
        return Unaugmented(TRANSFORMS[default].obj(image_size, in_chans))
    if name != "default" and name not in TRANSFORMS:
        raise UnknownNameError("transform", name, [*TRANSFORMS, "default", "none"])
    return TRANSFORMS[default if name == "default" else name].obj(image_size, in_chans)
