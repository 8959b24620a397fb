"""The image size at which a backbone gives covariance pooling something to pool."""

from functools import lru_cache

import torch

from gcp.errors import GCPError, ShapeError
from gcp.models.backbone import Backbone
from gcp.models.backbones import create_backbone
from gcp.models.names import source

STEP = 32
# A covariance from a map of 3 x 3 has rank 8 at most: the least that is worth a second-order head.
LEAST_SIDE = 3
LARGEST = 1024


@lru_cache(maxsize=8)
def _skeleton(name: str) -> Backbone:
    """The backbone on the meta device: shapes without memory or computation."""
    with torch.device("meta"):
        return create_backbone(name)


def _large_enough(backbone: Backbone, size: int) -> bool:
    try:
        return min(backbone.map_size(size)) >= LEAST_SIDE
    except ShapeError:
        return False


@lru_cache(maxsize=64)
def default_image_size(name: str, dataset_size: int) -> int:
    """Side in pixels to which images of `dataset_size` are brought for a backbone.

    A network for small images (`*_cifar`) takes them as they are; one that takes a single size, that size;
    any other the smallest multiple of 32, not below `dataset_size`, at which its map is at least 3 x 3
    (`alexnet_bn`: 64 for images of 8 to 64; `resnet18`: 96). Found by dry runs without computation, cached.
    Raises UnknownNameError.
    """
    if source(name)[0] == "ours" and name.endswith("_cifar"):
        return dataset_size
    backbone = _skeleton(name)
    if backbone.image_size is not None:
        return backbone.image_size[0]
    first = -(-dataset_size // STEP) * STEP
    for size in range(first, max(first, LARGEST) + 1, STEP):
        if _large_enough(backbone, size):
            return size
    raise GCPError(f"no image size up to {LARGEST} gives {name!r} a map of {LEAST_SIDE}x{LEAST_SIDE}")
