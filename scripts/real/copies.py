"""Does a part of an image occur again somewhere else? Normalised cross-correlation through Fourier transforms.

A photograph that was made seamless, by cloning one region over another, shows the same stones in its left and its right
half. Training on one half and testing on the other would then test on training data. `repeats` finds that.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from scipy import fft

LIMIT = 0.9  # correlation from which a patch counts as copied; unrelated patches of 64 px stay below 0.8 nearly always


def orientations(patch: np.ndarray) -> Iterator[np.ndarray]:
    """The eight rotations by right angles and their mirror images of a (H, W) patch."""
    for turned in (patch, patch[:, ::-1]):
        for quarter in range(4):
            yield np.rot90(turned, quarter)


def patches(region: np.ndarray, size: int, stride: int) -> Iterator[np.ndarray]:
    """Squares of `size` pixels of a (H, W) region, at most `stride` apart, the borders included."""
    height, width = region.shape
    rows = np.linspace(0, height - size, int(np.ceil((height - size) / stride)) + 1).round().astype(int)
    columns = np.linspace(0, width - size, int(np.ceil((width - size) / stride)) + 1).round().astype(int)
    for y in rows:
        for x in columns:
            yield region[y : y + size, x : x + size]


class Searched:
    """An image (H, W) in which square patches of one size are looked for."""

    def __init__(self, image: np.ndarray, size: int):
        self.image = np.asarray(image, dtype=np.float32) - np.float32(np.mean(image))
        self.size = size
        self.spectrum = fft.rfft2(self.image)
        mean = self._window_sums(self.image) / size**2
        square = self._window_sums(self.image**2) / size**2
        self.deviation = np.sqrt(np.maximum(square - mean**2, 1e-12))

    def _window_sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over all windows (H - size + 1, W - size + 1), in float64: they are differences of large numbers."""
        sums = np.pad(np.asarray(values, dtype=np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        size = self.size
        return sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]

    def correlation(self, patch: np.ndarray, least: float = 1.0) -> float:
        """The highest correlation coefficient of a (size, size) patch, as it lies, with a window of the image.

        Windows and patches whose standard deviation is below `least` are left out: they are flat, and what they
        correlate with is noise.
        """
        deviation = float(np.std(patch))
        seen = self.deviation >= least
        if deviation < least or not seen.any():
            return 0.0
        normal = (np.asarray(patch, dtype=np.float32) - np.float32(np.mean(patch))) / np.float32(deviation)
        # circular, and exact where the whole patch lies inside the image
        product = fft.irfft2(self.spectrum * fft.rfft2(normal, self.image.shape).conj(), self.image.shape)
        height, width = self.deviation.shape
        return float((product[:height, :width] / self.size**2 / self.deviation)[seen].max())


def repeats(searched: np.ndarray, region: np.ndarray, size: int = 64, stride: int = 64) -> float:
    """The highest correlation of a patch of `region` with a window of `searched`, over eight orientations."""
    image = Searched(searched, size)
    return max(image.correlation(turned) for patch in patches(region, size, stride) for turned in orientations(patch))


def shifted_copy(first: np.ndarray, second: np.ndarray) -> float:
    """The highest correlation of two (H, W) images over all cyclic shifts: recoloured or shifted copies are near 1."""
    normal = [(image - np.mean(image)) / max(float(np.std(image)), 1e-9) for image in (first, second)]
    product = fft.irfft2(fft.rfft2(normal[0]) * fft.rfft2(normal[1]).conj(), first.shape)
    return float(product.max()) / first.size


def distinct(named: Iterable[tuple[str, np.ndarray]], limit: float) -> tuple[list[str], dict[str, str]]:
    """Names of the images that are no shifted copies of an earlier one, and for the others which one they repeat."""
    kept: dict[str, np.ndarray] = {}
    dropped = {}
    for name, image in named:
        like = next((other for other, seen in kept.items() if shifted_copy(seen, image) > limit), None)
        if like is None:
            kept[name] = image
        else:
            dropped[name] = like
    return list(kept), dropped


def alike(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation coefficient of two arrays of one shape, as they lie; 0 where one of them is constant."""
    normal = [image.ravel() - np.mean(image) for image in (first, second)]
    length = float(np.linalg.norm(normal[0]) * np.linalg.norm(normal[1]))
    return float(normal[0] @ normal[1]) / length if length else 0.0
