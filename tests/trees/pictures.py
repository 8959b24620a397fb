"""Image files that are all different and small."""

from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

_number = count()


def picture(path: Path) -> Path:
    """Write 24 to 39 x 20 pixels of noise of its own to `path`, its folder made where it is not there."""
    generator = np.random.default_rng(next(_number))
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = generator.integers(0, 256, (20, 24 + generator.integers(16), 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
