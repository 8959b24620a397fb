"""Random rotation, zoom and shift of a batch of small images, resampled to the wanted size in one pass.

Output pixel u (centre of the image 0, edges -1 and 1) reads the source at `A u + t`, with A a rotation times
a zoom, by bilinear interpolation; outside of the source is black. A = I, t = 0 is plain resizing.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gcp.data.seeds import uniform


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
