"""Copies of a photograph that no comparison of bytes finds, on the two photographs inside scikit-learn."""

import io
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image, ImageEnhance

from gcp.data.checks import near_duplicates
from gcp.data.checks.near_duplicates import AlikePair, alike, by_kind
from gcp.errors import DataError

FOLDER = Path(sklearn.datasets.__file__).parent / "images"


def encoded(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


COPIES = {
    "encoded again": lambda image: encoded(image, 20),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "grey": lambda image: image.convert("L"),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda image: encoded(image.transpose(Image.Transpose.ROTATE_90), 50),
    "upside down": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "a part": lambda image: image.crop((30, 20, 30 + int(image.width * 0.85), 20 + int(image.height * 0.85))),
    "a corner": lambda image: image.crop((0, 0, int(image.width * 0.72), int(image.height * 0.7))),
}


@pytest.fixture
def photographs(tmp_path):
    """Save images by name and return their paths."""

    def save(**images):
        paths = []
        for name, image in images.items():
            paths.append(str(tmp_path / f"{name}.png"))
            image.save(paths[-1])
        return paths

    return save


@pytest.mark.parametrize("name", ["china", "flower"])
@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_is_found_and_the_other_photograph_is_not(name, copy, photographs):
    china, flower = (Image.open(FOLDER / f"{each}.jpg") for each in ("china", "flower"))
    whole = china if name == "china" else flower
    paths = photographs(china=china, flower=flower, copy=copy(whole))
    (found,) = alike(paths)
    assert (found.first, found.second) == (0 if name == "china" else 1, 2) and found.product >= near_duplicates.LIMIT


def test_noise_flat_images_and_broken_files_are_like_nothing(photographs, tmp_path):
    generator = np.random.default_rng(0)
    noise = {f"n{k}": Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for k in range(30)}
    paths = photographs(**noise, white=Image.new("RGB", (64, 64), "white"), grey=Image.new("RGB", (64, 64), "grey"))
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert alike([*paths, str(tmp_path / "broken.png"), "nowhere.png"]) == []
    assert alike([]) == []


def test_too_many_are_refused(monkeypatch):
    monkeypatch.setattr(near_duplicates, "MOST", 2)
    with pytest.raises(DataError, match=r"\b3 images .*at most 2\b"):
        alike(["a", "b", "c"])


def test_pairs_by_what_they_mean():
    pairs = [AlikePair(0, 1, 1.0), AlikePair(0, 2, 1.0), AlikePair(1, 3, 1.0)]
    kinds = by_kind(pairs, ["train", "train", "train", "test"], [0, 0, 1, 0])
    assert {kind: [tuple(pair[:2]) for pair in some] for kind, some in kinds.items()} == {
        "in two splits": [(1, 3)],
        "in two classes": [(0, 2)],
        "in one class": [(0, 1)],
    }
