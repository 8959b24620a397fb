import os
import shutil

import numpy as np
import torch

from gcp.data import create_dataset
from gcp.data.checks.duplicates import Duplicate, shared_files, shared_images
from gcp.data.images import TensorSet


def write(folder, **contents):
    paths = {}
    for name, content in contents.items():
        paths[name] = str(folder / name)
        (folder / name).write_bytes(content)
    return paths


def test_the_same_bytes_under_other_names(tmp_path):
    at = write(tmp_path, a=b"one", b=b"two", c=b"three", d=b"one", e=b"owt", f=b"four")
    splits = {"train": [at["a"], at["b"]], "val": [at["c"]], "test": [at["d"], at["e"], at["f"]]}
    assert shared_files(splits) == [Duplicate("train", at["a"], "test", at["d"])]


def test_every_copy_of_a_later_split_is_counted_and_copies_inside_a_split_are_not(tmp_path):
    at = write(tmp_path, a=b"one", b=b"one", c=b"one", d=b"one", e=b"two", f=b"two")
    splits = {"train": [at["a"], at["b"]], "test": [at["c"], at["d"], at["e"], at["f"]]}
    assert [(twin.one, twin.other) for twin in shared_files(splits)] == [(at["a"], at["c"]), (at["a"], at["d"])]


def test_only_sizes_that_two_splits_have_are_read(tmp_path, monkeypatch):
    at = write(tmp_path, a=b"123", b=b"1234", c=b"12345", d=b"abcd")
    read = []
    monkeypatch.setattr("gcp.data.checks.duplicates._digest", lambda path: read.append(path) or path.encode())
    assert shared_files({"train": [at["a"], at["b"]], "test": [at["c"], at["d"]]}) == []
    assert sorted(read) == [at["b"], at["d"]]


def test_one_file_named_by_two_splits_is_no_pair(tmp_path):
    at = write(tmp_path, a=b"one")
    os.symlink(at["a"], tmp_path / "link")
    os.link(at["a"], tmp_path / "second")
    for other, count in ((at["a"], 0), (f"{tmp_path}/link", 0), (f"{tmp_path}/second", 1)):
        assert len(shared_files({"train": [at["a"]], "test": [other]})) == count


def test_missing_files_are_left_out(tmp_path):
    assert shared_files({"train": [f"{tmp_path}/a"], "test": [f"{tmp_path}/b"]}) == []
    assert shared_files({"train": [], "test": []}) == []


def test_images_in_memory():
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1)
    sets = {
        "train": TensorSet(images[:3], [0, 0, 0], lambda images, seeds: images),
        "test": TensorSet(images[[5, 1, 4]], [0, 0, 0], lambda images, seeds: images),
    }
    assert shared_images(sets) == [Duplicate("train", "1", "test", "1")]


def test_an_image_set_is_compared_by_pixels_and_without_augmentation(tree):
    root = tree("folder")["root"]
    splits = create_dataset("folder", root, image_size=16)
    shutil.copy(splits.train.paths[0], splits.test.paths[1])
    open(splits.test.paths[0], "wb").close()
    assert shared_images({"train": splits.train, "test": splits.test}) == [Duplicate("train", "0", "test", "1")]


def test_progress_is_reported(tmp_path):
    at = write(tmp_path, a=b"one", b=b"two")
    seen = []

    def watch(items, total, text):
        seen.append((text, total))
        return items

    shared_files({"train": [at["a"]], "test": [at["b"]]}, watch)
    assert seen == [("sizes", 2), ("contents", 2)]
    seen.clear()
    assert np.all(shared_images({"train": create_dataset("digits").test}, watch) == []) and seen[0][1] == 360
