"""Images that show the same photograph: encoded again, resized, rotated by quarter turns, mirrored, or cut out of it.

An image is described by the direction of its gradients at low resolution,

    g = (differences of neighbours along both axes of the 9x9 grey thumbnail), divided by its norm

a continuous form of the difference hash (Krawetz 2013, "Kind of like that"). Two images are alike where the g of one,
in any of its eight orientations, has a product of at least LIMIT with the g of the other, or of a window of it. A pair
is a place to look at, not a proof. On 200 photographs of textures 95 of 100 copies in JPEG quality 20 have a product
above 0.93, and as many at half the size one above 0.94. Of crops at any place, in a hundred, and of the 39,800 ordered
pairs of different photographs there pass

    limit        90 % of the sides        80 %        70 %        different pairs
    0.9          82                       34          16          68
    0.8          96                       65          34          91
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from gcp.data.checks.verify import ProgressBar, in_processes, silent
from gcp.data.decode import decode
from gcp.errors import DataError

SIDE = 9  # of a thumbnail in pixels
LIMIT = 0.85  # the least product of two images that are alike
PLAIN = 1.0  # mean gradient in grey levels below which an image shows nothing to compare
SCALES, PLACES = (0.9, 0.8, 0.7), (0.0, 0.5, 1.0)  # of the windows: their sides, and where they lie
WITH_WINDOWS, MOST = 20_000, 100_000  # images beyond which windows, or anything, would take more than minutes
CHUNK = 256


class AlikePair(NamedTuple):
    """Two images, by their places in the list given, and their product. `second` may be a part of `first`."""

    first: int
    second: int
    product: float


def alike(paths: Sequence[str], watch: ProgressBar = silent, workers: int | None = None) -> list[AlikePair]:
    """The pairs of files that are alike, the most alike first; each pair once. Files that cannot be read, and images
    without any structure, are left out.

    Raises DataError for more than MOST files: the time goes with the square of their number.
    """
    if len(paths) > MOST:
        raise DataError(f"{len(paths):,} images are too many to compare each with each; at most {MOST:,}.")
    read = partial(descriptors, windows=len(paths) <= WITH_WINDOWS)
    found = list(watch(in_processes(read, paths, workers), len(paths), "thumbnails"))
    described = {number: each for number, each in enumerate(found) if each is not None}
    if not described:
        return []
    kept = list(described)
    queries = np.stack([each[0] for each in described.values()])  # (N, 8, D)
    windows = np.stack([each[1] for each in described.values()])  # (N, W, D)
    best: dict[tuple[int, int], float] = {}
    flat = windows.reshape(-1, windows.shape[2]).T
    for start in watch(range(0, len(kept), CHUNK), -(-len(kept) // CHUNK), "comparing"):
        some = queries[start : start + CHUNK]
        products = np.full((len(some), len(kept)), -1.0, dtype=np.float32)
        for orientation in range(some.shape[1]):
            every = (some[:, orientation] @ flat).reshape(len(some), len(kept), -1)
            np.maximum(products, every.max(2), out=products)
        for row, column in zip(*np.nonzero(products >= LIMIT), strict=True):
            one, other = kept[start + row], kept[column]
            if one != other:
                pair = min(one, other), max(one, other)
                best[pair] = max(best.get(pair, -1.0), float(products[row, column]))
    return sorted((AlikePair(*pair, product) for pair, product in best.items()), key=lambda pair: -pair.product)


def descriptors(path: str, windows: bool = True) -> tuple[np.ndarray, np.ndarray] | None:
    """The g (8, D) of an image in its orientations, and those (W, D) of itself and its windows; None for a file that
    cannot be read and an image without structure.
    """
    from PIL import Image

    try:
        pixels = decode(path, 1)[0]
    except DataError:
        return None
    image = Image.fromarray(pixels.numpy())
    whole = thumbnail(image, SIDE)
    if np.abs(differences(whole)).mean() < PLAIN:
        return None
    parts = [whole]
    for scale in SCALES if windows else ():
        width, height = image.width * scale, image.height * scale
        for across in PLACES:
            for down in PLACES:
                left, top = (image.width - width) * across, (image.height - height) * down
                parts.append(thumbnail(image, SIDE, (left, top, left + width, top + height)))
    return np.stack([direction(each) for each in orientations(whole)]), np.stack([direction(each) for each in parts])


def by_kind(pairs: Sequence[AlikePair], splits: Sequence[str], labels: Sequence[int]) -> Mapping[str, list[AlikePair]]:
    """The pairs by what they mean: "in two splits", "in two classes" of one split, and "in one class"."""
    kinds: dict[str, list[AlikePair]] = {"in two splits": [], "in two classes": [], "in one class": []}
    for pair in pairs:
        same_split = splits[pair.first] == splits[pair.second]
        same_class = labels[pair.first] == labels[pair.second]
        kinds["in two splits" if not same_split else "in one class" if same_class else "in two classes"].append(pair)
    return kinds


def thumbnail(  # type: ignore[no-untyped-def]
    image, side: int, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """A grey Pillow image, or the part in `box`, at (side, side) pixels, float32."""
    from PIL.Image import Resampling

    return np.asarray(image.resize((side, side), Resampling.LANCZOS, box=box), dtype=np.float32)


def orientations(small: np.ndarray) -> list[np.ndarray]:
    """A thumbnail and its mirror image, each turned by quarters: eight."""
    return [np.rot90(each, turns) for each in (small, small[:, ::-1]) for turns in range(4)]


def differences(small: np.ndarray) -> np.ndarray:
    """Of the neighbours along both axes of a thumbnail, (D,)."""
    across, down = small[:-1, 1:] - small[:-1, :-1], small[1:, :-1] - small[:-1, :-1]
    return np.concatenate([across.ravel(), down.ravel()])


def direction(small: np.ndarray) -> np.ndarray:
    """The g of a thumbnail, (D,)."""
    found = differences(small)
    return found / max(float(np.linalg.norm(found)), 1e-6)
