"""The 1,797 handwritten digits inside scikit-learn: 8x8, grey levels 0 to 16, ten classes. No download.

They are a part of the Optical Recognition of Handwritten Digits data (Alpaydin and Kaynak, 1998, UCI).
The test split is every fifth image by index.

Augmentation is a random rotation, zoom and shift, resampled to the wanted size in one pass: output pixel u (centre of
the image 0, edges -1 and 1) reads the source at `A u + t`, with A a rotation times a zoom, by bilinear interpolation;
outside of the source is black. A = I, t = 0 is plain resizing.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gcp.data.images import TensorSet
from gcp.data.normalize import Normalize
from gcp.data.seeds import uniform
from gcp.data.source import DATASETS, Request, Source
from gcp.data.splits import Splits, hold_out, reduce_train
from gcp.data.transforms import OWN, Preprocessing, Transform, Unaugmented
from gcp.errors import DataError

LEVELS = 16.0
# Of the 1,437 images outside the test split, divided by 16.
MEAN, STD = 0.3052, 0.3763


@dataclass(frozen=True)
class Affine:
    """Bounds of the uniform draws, either way: `degrees`, `zoom` around 1, `shift` in widths of the image."""

    degrees: float
    zoom: float
    shift: float

    def draw(self, seeds: np.ndarray) -> tuple[np.ndarray, ...]:
        """(a, b, tx, ty), each (B,) float64, of A = [[a, -b], [b, a]] and t, from seeds (B,) uint64."""
        angle, zoom, tx, ty = (2 * uniform(seeds, number) - 1 for number in range(4))
        angle, zoom = np.deg2rad(self.degrees * angle), 1 + self.zoom * zoom
        return zoom * np.cos(angle), zoom * np.sin(angle), 2 * self.shift * tx, 2 * self.shift * ty


# Small enough that a 6 does not become a 9 and that no stroke leaves the image; never mirrored.
MOTION = Affine(degrees=10.0, zoom=0.1, shift=0.08)


class DigitTransform:
    """Bilinear resizing, moved at random in training, black outside; the channel repeated."""

    def __init__(self, image_size: int, in_chans: int, told: Preprocessing = OWN):
        self.image_size = image_size
        self.in_chans = in_chans
        own = Normalize((MEAN,) * in_chans, (STD,) * in_chans)
        self.normalize = own if told == OWN else told.normalize(own)

    def __call__(self, images: Tensor, seeds: np.ndarray | None) -> Tensor:
        """(B, 1, 8, 8) uint8 and (B,) uint64 seeds or None to (B, in_chans, S, S) float32 in [0, 1]."""
        moves = None if seeds is None else MOTION.draw(seeds)
        out = resample(images.float() / LEVELS, self.image_size, moves)
        return out.expand(-1, self.in_chans, -1, -1).contiguous()


def resample(images: Tensor, size: int, moves: tuple[np.ndarray, ...] | None = None) -> Tensor:
    """`images` (B, c, h, w) float32 to (B, c, size, size), each by its own of `moves` (Affine.draw)."""
    count = len(images)
    line = (2 * torch.arange(size, dtype=torch.float32) + 1) / size - 1
    x, y = line.view(1, 1, size), line.view(1, size, 1)
    if moves is not None:
        # Products and sums stay separate operations: a fused one would round differently at the end of a
        # vector, and the image would depend on its neighbours in the batch.
        a, b, tx, ty = (torch.from_numpy(move).float().view(count, 1, 1) for move in moves)
        x, y = a * x - b * y + tx, b * x + a * y + ty
    grid = torch.stack([x.expand(count, size, size), y.expand(count, size, size)], dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def create(request: Request) -> Splits:
    """The digits; arguments as in `create_dataset`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "data set 'digits' is inside scikit-learn, which is not installed: pip install scikit-learn"
        ) from error

    bunch = load_digits()
    transform: Transform = DigitTransform(request.image_size, request.in_chans, request.told)
    if request.transform == "none":
        transform = Unaugmented(transform)
    every = TensorSet(torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1), bunch.target, transform)
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
        transforms=(),
        default="square",
        levels=17,
    ),
    summary="1,797 real handwritten digits, 8x8, 10 classes, inside scikit-learn: no download",
    paper="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
)
