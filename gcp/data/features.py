"""A split whose images are feature maps of a frozen backbone, computed before: what a cached run trains on.

Row `i * views + v` of the file is version v of image i: with one view the image as evaluation sees it, with two its
mirror as well, with more so many seeded augmentations. In training the seed of a sample, a function of (seed, epoch,
place in the order), chooses among the views of its image; order and batches are those of the images.
"""

import numpy as np
import torch
from torch import Tensor

from gcp.data.feature_file import FeatureFile
from gcp.data.images import ImageSet, Indices
from gcp.data.seeds import VIEW, uniform


class AsStored:
    """The transform of maps: none; they are widened to float32 on the device."""

    @staticmethod
    def normalize(maps: Tensor) -> Tensor:
        """float16 or float32 maps in float32."""
        return maps.float()

    def __call__(self, images: Tensor, seeds: np.ndarray | None) -> Tensor:
        return images


class FeatureSet(ImageSet):
    """Feature maps (C, h, w) in place of the images of a split; they can be read once `file` is complete."""

    in_memory = True  # reading is copying: worker processes would not pay

    def __init__(self, labels: Indices, file: FeatureFile, views: int = 1):
        super().__init__(labels, AsStored())
        self.file, self.views = file, views
        self.images = np.arange(len(self.labels))
        self._maps: np.ndarray | None = None

    def read(self, indices: Indices, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Maps (B, C, h, w) as they are stored, and labels (B,) int64. Without `seeds` the first view of each."""
        places = np.asarray(indices, dtype=np.int64)
        rows = self.images[places] * self.views
        if seeds is not None and self.views > 1:
            rows = rows + (self.views * uniform(seeds, VIEW)).astype(np.int64)
        return self._rows(rows), torch.from_numpy(self.labels[places])

    def stored(self, places: np.ndarray) -> Tensor:
        return self._rows(self.images[places] * self.views)

    def _rows(self, rows: np.ndarray) -> Tensor:
        if self._maps is None:
            self._maps = self.file.open()
        return torch.from_numpy(np.ascontiguousarray(self._maps[rows]))

    def _restrict(self, places: np.ndarray) -> None:
        self.images = self.images[places]
