"""Images held as files, decoded when read."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gcp.data.decode import decode
from gcp.data.imageset import frozen_labels
from gcp.data.normalize import Normalizer
from gcp.data.paths import Paths
from gcp.data.transforms import Transform

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")


class FileSet:
    """An ImageSet over `paths`, decoded with `in_chans` channels (1: grey, 3: RGB)."""

    in_memory = False

    def __init__(self, paths: Sequence[str], labels: Sequence[int] | np.ndarray, transform: Transform, in_chans: int):
        self.paths = paths if isinstance(paths, Paths) else Paths(paths)
        self.labels = frozen_labels(labels)
        self.transform = transform
        self.in_chans = in_chans

    @property
    def normalize(self) -> Normalizer:
        """That of the transform."""
        return self.transform.normalize

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.read([index])
        return images[0], int(labels[0])

    def read(self, indices: Sequence[int] | np.ndarray, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """A batch; see ImageSet.read."""
        # A generator: only one decoded image is alive at a time, before it is cropped.
        images = (decode(self.paths[index], self.in_chans) for index in indices)
        return self.transform(images, seeds), torch.from_numpy(self.labels[np.asarray(indices, dtype=np.int64)])

    def subset(self, indices: Sequence[int] | np.ndarray) -> "FileSet":
        """The same files restricted to `indices`."""
        chosen = np.asarray(indices, dtype=np.int64)
        return FileSet(self.paths.take(chosen), self.labels[chosen], self.transform, self.in_chans)
