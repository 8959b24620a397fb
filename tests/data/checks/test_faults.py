import os
import re

import numpy as np
import pytest

from gcp.data import Splits
from gcp.data.checks.faults import overlaps, real_paths
from gcp.data.images import FileSet
from gcp.errors import DataError


@pytest.fixture
def files(tmp_path):
    """Three files in two folders."""
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return lambda *names: [str(tmp_path / name) for name in names]


def test_files_of_the_same_name_in_two_folders_differ(files):
    assert list(overlaps({"train": files("a/1.jpg", "a/2.jpg"), "test": files("b/1.jpg")})) == []


def test_each_pair_is_named(files):
    found = list(
        overlaps({"train": files("a/1.jpg", "a/2.jpg"), "val": files("b/1.jpg"), "test": files("a/1.jpg", "b/1.jpg")})
    )
    expected = [("train", "a/1.jpg"), ("val", "b/1.jpg")]
    for message, (split, path) in zip(found, expected, strict=True):
        assert re.search(rf"\b1 .*\b{split}\b.*\btest\b.*{re.escape(files(path)[0])}$", message)


@pytest.mark.parametrize("path", ["c/1.jpg", "d/e/1.jpg", "a/../a/1.jpg", "b/link.jpg", "b/chain.jpg"])
def test_links_and_detours(files, tmp_path, path):
    (tmp_path / "c").symlink_to("a")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "e").symlink_to(tmp_path / "c")
    (tmp_path / "b" / "link.jpg").symlink_to("../c/1.jpg")
    (tmp_path / "b" / "chain.jpg").symlink_to("link.jpg")
    found = {name: real_paths(paths) for name, paths in {"train": files("a/1.jpg"), "test": files(path)}.items()}
    (message,) = overlaps(found)
    assert re.search(rf"\b1 .*\btrain\b.*\btest\b.*{re.escape(files('a/1.jpg')[0])}$", message)


def test_a_file_twice_in_a_split(files, tmp_path):
    (tmp_path / "b" / "again.jpg").symlink_to("../a/2.jpg")
    found = real_paths(files("a/1.jpg", "a/2.jpg", "b/again.jpg", "b/1.jpg", "a/2.jpg"))
    (message,) = overlaps({"train": found})
    assert re.search(rf"\b2 .*twice.*\btrain\b.*{re.escape(files('a/2.jpg')[0])}$", message)


def test_files_that_are_not_there(files, tmp_path):
    (tmp_path / "a" / "dangling.jpg").symlink_to("nowhere")
    paths = files("a/1.jpg", "a/3.jpg", "a/dangling.jpg", "z/1.jpg", "a/1.jpg/2.jpg")
    assert (real_paths(paths)) == [os.path.realpath(paths[0]), None, None, None, None]


def test_each_folder_is_listed_once_and_no_file_is_touched(files, monkeypatch):
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    monkeypatch.setattr(os.path, "exists", lambda path: pytest.fail(f"touched {path}"))
    assert None not in (real_paths(files("a/1.jpg", "b/1.jpg", "a/2.jpg", "a/1.jpg")))
    assert len(listed) == 2


def splits(train, val, test):
    sets = [FileSet(paths, np.zeros(len(paths)), transform=None, in_chans=3) for paths in (train, val, test)]
    return Splits(*sets, classes=("a",), rule="")


def test_splits_refuse_a_file_in_two(files):
    assert len(splits(files("a/1.jpg"), files("a/2.jpg"), files("b/1.jpg")).test) == 1
    with pytest.raises(DataError, match=r"\b1 .*\btrain .*\bval\b.* trained on"):
        splits(files("a/1.jpg", "a/2.jpg"), files("a/2.jpg"), files("b/1.jpg"))
