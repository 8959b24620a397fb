"""Images held as files, decoded when read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gcp.data.imageset import frozen_labels
from gcp.data.transforms import Transform
from gcp.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")


class FileSet:
    """An ImageSet over `paths`, decoded with `in_chans` channels (1: grey, 3: RGB)."""

    in_memory = False

    def __init__(self, paths: Sequence[str], labels: Sequence[int] | np.ndarray, transform: Transform, in_chans: int):
        self.paths = tuple(paths)
        self.labels = frozen_labels(labels)
        self.transform = transform
        self.in_chans = in_chans

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
        return FileSet([self.paths[index] for index in chosen], self.labels[chosen], self.transform, self.in_chans)


def decode(path: str, in_chans: int) -> "Image":
    """The image at `path` as PIL "L" (in_chans 1) or "RGB" (3). Raises DataError with path and cause."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            file.load()
            mode = file.mode
            # From a palette with transparency Pillow wants the way over RGBA, and warns otherwise.
            image = file.convert("RGBA") if mode == "P" and "transparency" in file.info else file
            picture = image.convert("L" if in_chans == 1 else "RGB")
    except Exception as error:  # decoders of broken files raise nearly anything
        raise DataError(
            f"cannot read the image {path}: {type(error).__name__}: {error}. Replace the file and continue, or remove "
            "it and begin a new run."
        ) from error
    if mode.startswith(("I", "F")):
        # Conversion from 16 or 32 bits clips at 255 and gives a white image.
        raise DataError(f"the image {path} has mode {mode!r}; allowed are 8 bits per channel. Convert it.")
    return picture
