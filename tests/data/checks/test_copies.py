import numpy as np
import pytest
from PIL import Image, ImageOps

from gcp.data.checks import copies
from gcp.data.checks.copies import find_copies


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def photograph(seed, side=96):
    """Smooth patches of light, as a photograph has them at low resolution."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side * 5 // 4, side), Image.Resampling.BICUBIC)


@pytest.fixture
def files(tmp_path):
    """0, 1: different; 2 the bytes of 0; then near copies of 1, in four ways; a flat one twice; and one cut off."""
    first, second = photograph(0), photograph(1)
    images = [first, second, first, None, second.resize((60, 48)), ImageOps.mirror(second), second.rotate(90, expand=1)]
    images += [Image.new("RGB", (40, 40)), Image.new("RGB", (41, 40))]
    paths = [tmp_path / f"{place}.png" for place in range(10)]
    for path, image in zip(paths, images, strict=False):
        (second if image is None else image).save(path, "JPEG" if image is None else "PNG", quality=30)
    paths[9].write_bytes(paths[3].read_bytes()[:100])
    return [str(path) for path in paths]


def test_exact_and_near_copies(files):
    found = find_copies(files)
    assert found.groups.tolist() == [0, 1, 0, 1, 1, 1, 1, 7, 8, 9]
    assert (found.exact, found.near, found.refused) == (1, 4, "")
    exact = find_copies(files, near=False)
    assert exact.groups.tolist() == [0, 1, 0, *range(3, 10)] and (exact.exact, exact.near) == (1, 0)


def test_different_photographs_are_no_copies(tmp_path):
    paths = [str(tmp_path / f"{seed}.png") for seed in range(60)]
    for seed, path in enumerate(paths):
        photograph(seed, 48).save(path)
    assert find_copies(paths).groups.tolist() == list(range(60))


def test_groups_are_kept_until_a_file_changes(files, monkeypatch, cache):
    before = find_copies(files)
    with monkeypatch.context() as patch:
        patch.setattr(copies, "_find", lambda *_: pytest.fail("found again"))
        assert find_copies(files).groups.tolist() == before.groups.tolist()
    photograph(5).save(files[2])
    assert find_copies(files).exact == 0
    next(cache.rglob("*.npz")).write_bytes(b"damaged")
    assert find_copies(files).exact == 0


def test_a_cache_that_cannot_be_written(files, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", files[0])  # a file
    assert find_copies(files).exact == 1


def test_pictures_that_all_look_alike_are_not_taken_for_copies(tmp_path):
    """A chain of near copies of one drawing, each a little further."""
    paths = [str(tmp_path / f"{place}.png") for place in range(30)]
    for place, path in enumerate(paths):
        Image.blend(photograph(0), photograph(1), place / 60).save(path)
    found = find_copies(paths)
    assert found.groups.tolist() == list(range(30)) and "look alike" in found.refused
