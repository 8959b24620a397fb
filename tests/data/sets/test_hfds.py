"""Folders in the hub's format; no network."""

import re

import numpy as np
import pytest
import torch

from gcp.data import ImageSet, create_dataset, create_loader
from gcp.errors import DataError, OptionError

EVERY = [0, 1, 2] * 4


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
def create(tree, tmp_path):
    """The splits of a set with the labels given, by split."""
    place = []

    def create(name="#fine", labels=None, **options):
        if not place:
            place.append(tree("hfds", folder="Vögel und 鸟 images", **(labels or {}))["root"])
        return create_dataset(f"hfds/{place[0]}{name}", tmp_path / "cache", image_size=16, **options)

    return create


def test_splits_as_for_files(create):
    splits = create()
    assert splits.classes == ("class 0", "class 1", "class 2")
    assert np.bincount(splits.test.labels).tolist() == [4, 4, 4]
    assert np.bincount(splits.val.labels).tolist() == [1, 1, 1]
    assert np.bincount(splits.train.labels).tolist() == [3, 3, 3]
    assert re.search(r"validation: 3 of the 12 .*class by class.* 0\.1\b.*seed 0\b", splits.rule)
    assert not set(splits.train.indices) & set(splits.val.indices)
    few = create(per_class=2)
    assert np.bincount(few.train.labels).tolist() == [2, 2, 2] and len(few.test) == 12
    assert few.fingerprint()["test"] == splits.fingerprint()["test"]
    assert create(split_seed=1).train.indices.tolist() != splits.train.indices.tolist()


def test_images_follow_the_protocol(create):
    images = create().train
    assert isinstance(images, ImageSet)
    first, label = images[1]
    assert first.dtype == torch.uint8 and first.shape == (3, 16, 16) and label == images.labels[1]
    part = images.subset([5, 1])
    assert part[1][0].equal(first) and part.labels.tolist() == images.labels[[5, 1]].tolist()
    seeds = np.array([3, 4], dtype=np.uint64)
    assert images.read([1, 5], seeds)[0].flip(0).equal(part.read([0, 1], seeds[::-1])[0])
    assert create(in_chans=1).test[0][0].shape == (1, 16, 16)


def test_batches_do_not_depend_on_workers(create):
    images = create().train
    found = [[b[0] for b in create_loader(images, 4, train=True, workers=n).epoch(1)] for n in (0, 1)]
    assert torch.cat(found[0]).equal(torch.cat(found[1]))


def test_roles_of_the_splits(create):
    splits = create(labels={"train": EVERY, "validation": [0, 1, 2, 2], "test": [0, 1, 2]})
    assert (len(splits.train), len(splits.val), len(splits.test)) == (12, 4, 3)
    assert re.search(r"test: .*'test' \(3\).*validation: .*'validation' \(4\).*training: 12\b", splits.rule)


def test_a_split_without_labels_is_not_used(create):
    splits = create(labels={"train": EVERY, "validation": [0, 1, 2, 2], "test": [-1, -1]})
    assert (len(splits.train), len(splits.val), len(splits.test)) == (9, 3, 4)
    assert re.search(r"test: .*'validation' \(4\).*not used: test\b", splits.rule)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"train": EVERY}, r"no split to score .*'train'.*needed"),
        ({"test": EVERY, "other": EVERY}, r"no split to train on: .*('test', 'other'|'other', 'test')"),
        (
            {"train": EVERY, "test": [0, -1, 1]},
            r"split 'test' .*\b1 labels .*-1, .*image 1\b",
        ),
    ],
)
def test_sets_that_cannot_be_used(create, labels, text):
    with pytest.raises(DataError, match=text):
        create(labels=labels)


def test_columns(create):
    with pytest.raises(DataError, match=r"fine, coarse.*data\.name='hfds/.*#fine'"):
        create("")
    with pytest.raises(DataError, match=r"'fin'.*Did you mean 'fine'\?.*img, fine, coarse"):
        create("#fin")
    assert create("#coarse").classes == ("all",)
    with pytest.raises(DataError, match=r"cannot open data set|holds .* values"):
        create("#img")


def test_folders_of_classes(make_tree, tmp_path):
    """The package's own layout of images."""
    place = make_tree({"train": {"cat": 4, "dog": 4}, "test": {"cat": 1, "dog": 1}})
    splits = create_dataset(f"hfds/{place}", tmp_path / "cache", image_size=16)
    assert splits.classes == ("cat", "dog") and (len(splits.train), len(splits.val), len(splits.test)) == (6, 2, 2)
    (place / "test/cat/000.jpg").unlink()
    with pytest.raises(DataError, match=r"image 0 in test of hfds/.*FileNotFoundError"):
        splits.test[0]
    (place / "test/dog/000.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"image 1 in test of hfds/.*UnidentifiedImageError"):
        splits.test[1]


def test_names_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"cannot open data set 'hfds//nowhere/x': .*nowhere"):
        create_dataset("hfds//nowhere/x", tmp_path)
    with pytest.raises(DataError, match=r"'hfds/nobody/nothing': ConnectionError"):
        create_dataset("hfds/nobody/nothing", tmp_path)
    with pytest.raises(OptionError, match=r"data.root must be the path of a folder; got 3"):
        create_dataset("hfds/a", 3)


def test_without_the_package(monkeypatch):
    monkeypatch.setattr("gcp.data.source.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"'hfds/a' .*datasets.* pip install .*\[data\]"):
        create_dataset("hfds/a")
