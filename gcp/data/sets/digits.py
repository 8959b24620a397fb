"""The 1,797 handwritten digits inside scikit-learn: 8x8, grey levels 0 to 16, ten classes. No download.

They are a part of the Optical Recognition of Handwritten Digits data (Alpaydin and Kaynak, 1998, UCI).
The test split is every fifth image by index.
"""

import numpy as np
import torch
from torch import Tensor

from gcp.data.imageset import Splits
from gcp.data.normalize import Normalize
from gcp.data.source import DATASETS, Request, Source
from gcp.data.split import hold_out, reduce_train
from gcp.data.tensors import TensorSet
from gcp.data.transforms import Transform, Unaugmented
from gcp.data.transforms.affine import Affine, resample
from gcp.errors import DataError

LEVELS = 16.0
# Of the 1,437 images outside the test split, divided by 16.
MEAN, STD = 0.3052, 0.3763
# Small enough that a 6 does not become a 9 and that no stroke leaves the image; never mirrored.
MOTION = Affine(degrees=10.0, zoom=0.1, shift=0.08)


class DigitTransform:
    """Bilinear resizing, moved at random in training, black outside; the channel repeated."""

    def __init__(self, image_size: int, in_chans: int):
        self.image_size = image_size
        self.in_chans = in_chans
        self.normalize = Normalize((MEAN,) * in_chans, (STD,) * in_chans)

    def __call__(self, images: Tensor, seeds: np.ndarray | None) -> Tensor:
        """(B, 1, 8, 8) uint8 and (B,) uint64 seeds or None to (B, in_chans, S, S) float32 in [0, 1]."""
        moves = None if seeds is None else MOTION.draw(seeds)
        out = resample(images.float() / LEVELS, self.image_size, moves)
        return out.expand(-1, self.in_chans, -1, -1).contiguous()


def create(request: Request) -> Splits:
    """The digits; arguments as in `create_dataset`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "data set 'digits' is inside scikit-learn, which is not installed: pip install scikit-learn"
        ) from error

    bunch = load_digits()
    recipe: Transform = DigitTransform(request.image_size, request.in_chans)
    if request.transform == "none":
        recipe = Unaugmented(recipe)
    every = TensorSet(torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1), bunch.target, recipe)
    classes = tuple(str(name) for name in bunch.target_names)

    is_test = np.arange(len(every)) % 5 == 0
    test, pool = every.subset(np.flatnonzero(is_test)), every.subset(np.flatnonzero(~is_test))
    train, val, held_out = hold_out(pool, request.val_fraction, request.split_seed, classes)
    train, kept = reduce_train(train, request.per_class, request.split_seed, classes)
    rule = f"test: every fifth image by index ({len(test)}); validation: {held_out}; training: {kept}."
    return Splits(train, val, test, classes, rule)


DATASETS.add(
    "digits",
    Source(
        create,
        needs_root=False,
        image_size=32,
        min_size=8,
        channels=None,
        default="square",
        levels=17,
    ),
    summary="1,797 real handwritten digits, 8x8, 10 classes, inside scikit-learn: no download",
    paper="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
)
