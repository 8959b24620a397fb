"""A folder of JPEG files that cost what photographs cost to decode and to crop."""

from pathlib import Path

import numpy as np

DESCRIPTION = "{count} generated JPEG files of 500x375, quality 90: gradients, waves and noise"
WIDTH, HEIGHT, QUALITY = 500, 375, 90
CLASSES = 4
NOISE = 12.0  # standard deviation in grey levels; files become about 75 kB


def write_photographs(root: Path, count: int, seed: int = 0) -> None:
    """Write root/CLASS/NUMBER.jpg, `count` files in `CLASSES` classes."""
    from PIL import Image

    for number in range(count):
        folder = root / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_photograph(seed + number)).save(folder / f"{number:05d}.jpg", quality=QUALITY)


def _photograph(seed: int) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH]).reshape(2, 1, 1)
    slope, wave = generator.uniform(-60, 60, (2, 3)), generator.uniform(1, 8, (2, 3))
    phase = generator.uniform(0, 2 * np.pi, 3)
    plane = 128 + x[..., None] * slope[0] + y[..., None] * slope[1]
    waves = 40 * np.sin(2 * np.pi * (x[..., None] * wave[0] + y[..., None] * wave[1]) + phase)
    noise = generator.normal(0, NOISE, (HEIGHT, WIDTH, 3))
    return (plane + waves + noise).clip(0, 255).astype(np.uint8)
