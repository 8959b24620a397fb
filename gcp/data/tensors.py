"""Images held in memory as one tensor."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gcp.data.imageset import frozen_labels
from gcp.data.normalize import Normalizer
from gcp.data.transforms import Transform


class TensorSet:
    """An ImageSet over `images` (N, c, h, w) of any dtype that its transform takes, a whole batch at once."""

    in_memory = True
    paths = None

    def __init__(self, images: Tensor, labels: Sequence[int] | np.ndarray, transform: Transform):
        self.images = images
        self.labels = frozen_labels(labels)
        self.transform = transform

    @property
    def normalize(self) -> Normalizer:
        """That of the transform."""
        return self.transform.normalize

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.read([index])
        return images[0], int(labels[0])

    def read(self, indices: Sequence[int] | np.ndarray, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """A batch; see ImageSet.read."""
        chosen = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        return self.transform(self.images[chosen], seeds), torch.from_numpy(self.labels[chosen.numpy()])

    def subset(self, indices: Sequence[int] | np.ndarray) -> "TensorSet":
        """The same images restricted to `indices`."""
        chosen = np.asarray(indices, dtype=np.int64)
        return TensorSet(self.images[torch.from_numpy(chosen)], self.labels[chosen], self.transform)
