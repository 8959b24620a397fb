"""Small trees of real image files, and a watch on the global random state."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture
def make_tree(tmp_path):
    """Builds root/split/class/*.jpg from {"train": {"cat": 4, ...}, ...} and returns root."""

    def build(layout: dict[str, dict[str, int]], suffix: str = ".jpg", root: str = "images") -> Path:
        generator = np.random.default_rng(0)
        for split, classes in layout.items():
            for name, count in classes.items():
                folder = tmp_path / root / split / name
                folder.mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    pixels = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number:03d}{suffix}")
        return tmp_path / root

    return build


@pytest.fixture
def random_state():
    """A function whose result compares equal while no global generator has moved."""

    def state() -> tuple:
        kind, keys, *rest = np.random.get_state()
        return torch.get_rng_state().numpy().tobytes(), kind, keys.tobytes(), tuple(rest), random.getstate()

    return state
