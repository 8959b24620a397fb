import numpy as np
import pytest
from PIL import Image

from gcp.data import create_dataset, stratified_split
from gcp.data.grouped import grouped_split
from gcp.data.seeds import SPLIT
from gcp.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def photograph(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC)


@pytest.fixture
def pool(tmp_path):
    """Two classes of 20 and 10 photographs."""
    for name, count, start in (("cat", 20, 0), ("dog", 10, 100)):
        (tmp_path / name).mkdir()
        for place in range(count):
            photograph(start + place).save(tmp_path / name / f"{place:02}.png")
    return tmp_path


def names(images):
    return {"/".join(path.rsplit("/", 2)[1:]) for path in images.paths}


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.34, 0.9])
def test_without_copies_it_is_the_split_by_images(fraction):
    labels = np.repeat([0, 1, 2], [1, 7, 30])
    grouped = grouped_split(labels, np.arange(38), fraction, 3, SPLIT)
    assert [part.tolist() for part in grouped] == [part.tolist() for part in stratified_split(labels, fraction, 3)]


@pytest.mark.parametrize("seed", range(20))
def test_groups_stay_whole_and_shares_are_kept(seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), 60)
    groups = np.arange(240)
    for size in rng.integers(2, 9, 10):  # within a class and across classes
        groups[rng.choice(240, size, replace=False)] = 1000 + size + seed
    kept, held = grouped_split(labels, groups, 0.2, seed, SPLIT)
    assert not set(groups[kept]) & set(groups[held]) and sorted([*kept, *held]) == list(range(240))
    counts = np.bincount(labels[held], minlength=4)
    assert counts.min() >= 6 and counts.max() <= 20


def test_a_class_of_one_group_is_not_torn():
    kept, held = grouped_split(np.zeros(5, int), np.array([7, 7, 7, 7, 7]), 0.5, 0, SPLIT)
    assert len(kept) == 5 and len(held) == 0


def test_classes_without_splits_are_split(pool):
    splits = create_dataset("folder", pool, image_size=16)
    assert splits.classes == ("cat", "dog")
    assert np.bincount(splits.test.labels).tolist() == [4, 2] and np.bincount(splits.val.labels).tolist() == [2, 1]
    assert len(splits.train) == 21 and "20% of each class" in splits.rule
    other = create_dataset("folder", pool, image_size=16, split_seed=1)
    assert names(other.test) == names(splits.test) and names(other.val) != names(splits.val)
    half = create_dataset("folder", pool, image_size=16, test_fraction=0.5, val_fraction=0)
    assert (len(half.test), len(half.val), len(half.train)) == (15, 0, 15)


@pytest.mark.parametrize(("copies", "together"), [("near", True), ("exact", False)])
def test_copies_stay_on_one_side(pool, copies, together):
    """Five near copies of each test image, among the images of the class."""
    tested = names(create_dataset("folder", pool, image_size=16).test)
    for name in tested:
        for side in range(24, 34, 2):
            with Image.open(pool / name) as image:
                image.resize((side, side)).save(pool / name.replace(".png", f"-{side}.png"))
    splits = create_dataset("folder", pool, image_size=16, copies=copies)
    groups = {name: {each.split("-")[0].removesuffix(".png") for each in names(getattr(splits, name))}
              for name in ("train", "val", "test")}  # fmt: skip
    apart = not (groups["train"] & groups["test"] or groups["train"] & groups["val"] or groups["val"] & groups["test"])
    assert apart is together
    assert ("0 exact, 30 near" in splits.rule) is together


def test_copies_in_two_classes_are_told(pool):
    photograph(0).save(pool / "dog" / "99.png")
    splits = create_dataset("folder", pool, image_size=16)
    assert "1 image with copies in another class" in splits.rule and "1 exact" in splits.rule
    sides = [
        split for split in ("train", "val", "test") if {"cat/00.png", "dog/99.png"} & names(getattr(splits, split))
    ]
    assert len(sides) == 1


def test_a_class_of_one_picture(pool):
    (pool / "yak").mkdir()
    for place in range(3):
        photograph(200).save(pool / "yak" / f"{place}.png")
    with pytest.raises(DataError, match=r"class 'yak' .*two images.*'train' and 'test'"):
        create_dataset("folder", pool, image_size=16)


def test_images_beside_the_classes_are_told(pool):
    photograph(1).save(pool / "loose.png")
    assert "Not used: 1 image in no class folder" in create_dataset("folder", pool, image_size=16).rule
