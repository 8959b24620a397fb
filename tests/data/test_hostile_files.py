"""What lies among images and is none: pipes and devices end in one message at once, and nothing outside is opened."""

import json
import os
import socket
from pathlib import Path

import pytest

from gcp.data import create_dataset
from gcp.data.checks.duplicates import shared_files
from gcp.data.decode import decode
from gcp.errors import DataError


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A pipe, a socket, a link to a device without an end, and a folder, each with the name of an image."""
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    socket.socket(socket.AF_UNIX).bind("socket.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    return [tmp_path / f"{name}.png" for name in ("pipe", "socket", "device", "folder")]


def test_none_is_decoded(odd):
    for path in odd:
        with pytest.raises(DataError, match=f"cannot read the image {path}: "):
            decode(path, 3)


def test_the_fast_check_names_them(odd, make_tree, tmp_path):
    root = make_tree({"train": {"a": 3, "b": 3}, "test": {"a": 2, "b": 2}})
    for path in odd[:3]:
        path.rename(root / "train" / "a" / path.name)
    with pytest.raises(DataError, match=r"3 of 9 .*train .*/train/a/device\.png"):
        create_dataset("folder", root)
    paths = [str(path) for path in (root / "train" / "a").iterdir()]
    assert shared_files({"train": paths, "test": paths}) == []


def test_a_list_that_is_a_pipe(tree):
    root = Path(tree("cub")["root"])
    (root / "classes.txt").unlink()
    os.mkfifo(root / "classes.txt")
    with pytest.raises(DataError, match="cannot read the list"):
        create_dataset("cub", root, partial=True)


def test_hidden_folders_hold_no_images(make_tree):
    layout = {"train": {"a": 3, "b": 3}, "test": {"a": 2, "b": 2}}
    layout["train"]["a/.ipynb_checkpoints"] = layout["test"]["b/.thumbnails/small"] = 2
    splits = create_dataset("folder", make_tree(layout), val_fraction=0)
    assert (len(splits.train), len(splits.test)) == (6, 4)


@pytest.mark.parametrize("name", ["../../secret", "a/../../secret", "/etc"])
def test_lists_do_not_lead_out_of_the_folder(tree, name):
    root = Path(tree("cub")["root"])
    (root.parent / "secret").mkdir()
    (root.parent / "secret" / "key.png").write_bytes(b"PRIVATE KEY 1234")
    classes = (root / "classes.txt").read_text().splitlines()
    old = classes[0].partition(" ")[2]
    (root / "classes.txt").write_text("\n".join([f"1 {name}", *classes[1:]]))
    images = (root / "images.txt").read_text()
    (root / "images.txt").write_text(images.replace(f" {old}/", f" {name}/"))
    with pytest.raises(DataError, match=r"has the image .*allowed: a path inside of .*images") as error:
        create_dataset("cub", root, partial=True)
    assert "PRIVATE" not in str(error.value)


def test_a_large_set_is_not_decoded_whole(make_tree, monkeypatch):
    root = make_tree({"train": {"a": 9, "b": 9}, "test": {"a": 9, "b": 9}})
    for number in (1, 2, 3, 7):
        (root / "train" / "a" / f"{number:03d}.jpg").write_bytes(b"no image")
    with pytest.raises(DataError) as error:
        create_dataset("folder", root)
    assert str(error.value).count("cannot read the image") == 4  # of a small one every fault is named
    monkeypatch.setattr("gcp.data.checks.faults.FEW", 10)
    assert len(create_dataset("folder", root, val_fraction=0).train) == 18


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["cat", "dog", "cat"]}, r"'cat' .*\b0 .*\b2\b.*allowed: .*once"),
        ({"classes": "cat"}, "'classes' is 'cat', not a list"),
        ({"length": 10**30}, f"shard length.* {10**30}; allowed: .* 1 to 1,000,000,000"),
        ({"length": 1e30}, r"shard length.* 1e\+30; allowed: whole numbers"),
    ],
)
def test_the_info_of_a_webdataset(tree, change, message):
    pytest.importorskip("webdataset")
    root = Path(tree("wds")["root"])
    info = json.loads((root / "_info.json").read_text())
    if "length" in change:
        info["splits"]["train"]["shard_lengths"][0] = change["length"]
    else:
        info |= change
    (root / "_info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match=message):
        create_dataset("wds/x", root)
