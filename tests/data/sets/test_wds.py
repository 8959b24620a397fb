"""Real tar files of real JPEGs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trees.pictures import picture
from trees.wds import shard

from gcp.cli.main import run
from gcp.cli.webdataset_info import main
from gcp.data import StreamSet, create_dataset, create_loader
from gcp.errors import DataError, OptionError, UnknownNameError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def place(tree):
    """Twelve images of train and of test in shards of 5, 1, 4, 2 and 4, 6, 2, in a folder with a strange name."""
    return tree("wds", folder="Vögel und 鸟 images")["root"]


def create(root, name="wds/birds", **options):
    return create_dataset(name, root, image_size=16, **options)


def change(root, **values):
    """Rewrite the info file with other values; a value of None leaves the key out."""
    path = root / "_info.json"
    info = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in info.items() if value is not None}))


def labels(images, workers=0, batch=5):
    batches = create_loader(images, batch, train=False, workers=workers).epoch(0)
    return torch.cat([labels for _, labels in batches]).tolist()


def test_splits(place):
    splits = create(place)
    assert splits.classes == ("class 0", "class 1", "class 2")
    assert isinstance(splits.train, StreamSet)
    assert len(splits.train) + len(splits.val) == 12 and len(splits.test) == 12
    shards = {name: {s.name for s in getattr(splits, name).shards} for name in ("train", "val", "test")}
    assert not shards["train"] & shards["val"] and not shards["test"] & (shards["train"] | shards["val"])
    assert len(shards["train"] | shards["val"]) == 4
    assert "test: the split 'test' (12); validation: " in splits.rule
    held = len(shards["val"])
    assert re.search(rf"\b{held} of .*\b4 shards .*whole.* 0\.1\b.*seed 0\b", splits.rule)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_evaluation_counts_every_image_once(place, workers):
    """Four images of each of three classes, in three shards; of train three workers read four shards."""
    splits = create(place)
    assert np.bincount(labels(splits.test, workers)).tolist() == [4, 4, 4]
    everything = labels(splits.train, workers) + labels(splits.val, workers)
    assert np.bincount(everything).tolist() == [4, 4, 4]


def test_images_are_those_of_the_files(place):
    """Against Pillow, through the tar file by hand."""
    import io
    import tarfile

    splits = create(place, transform="square")
    with tarfile.open(place / "test-0000.tar") as tar:
        first = Image.open(io.BytesIO(tar.extractfile("test000.jpg").read())).convert("RGB").resize((16, 16), 2)
    images, _ = next(iter(create_loader(splits.test, 1, train=False, workers=0).epoch(0)))
    assert images.dtype == torch.uint8 and images.shape == (1, 3, 16, 16)
    assert (images[0].permute(1, 2, 0).int() - torch.from_numpy(np.array(first)).int()).abs().max() <= 2


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.6, 0.99])
def test_held_out_shards_are_never_in_train(place, fraction):
    total = {seed: create(place, val_fraction=fraction, split_seed=seed) for seed in range(6)}
    for splits in total.values():
        train, val = ({s.name for s in images.shards} for images in (splits.train, splits.val))
        assert train and val and not train & val and len(train | val) == 4
        assert len(splits.val) >= fraction * 12 or len(splits.train.shards) == 1
    assert len({splits.val.shards for splits in total.values()}) > 1
    assert create(place, val_fraction=fraction).fingerprint() == total[0].fingerprint()


def test_nothing_is_held_out(place):
    splits = create(place, val_fraction=0)
    assert (len(splits.train), len(splits.val), len(splits.train.shards)) == (12, 0, 4)
    assert re.search(r"validation: none.*val_fraction 0\b", splits.rule)


def test_named_splits_are_used_as_they_are(place):
    info = json.loads((place / "_info.json").read_text())["splits"]
    change(place, splits={"train": info["train"], "validation": info["test"]})
    only = create(place)
    assert len(only.test) == 12 and re.search(r"test: .*'validation' \(12\)", only.rule)
    parts = (
        {"filenames": ["test-0000.tar"], "shard_lengths": [4]},
        {"filenames": ["test-0001.tar"], "shard_lengths": [6]},
    )
    change(
        place,
        splits={
            "train": info["train"],
            "val": parts[0],
            "test": parts[1],
            "extra": {**info["test"], **{"filenames": ["test-0002.tar"], "shard_lengths": [2]}},
        },
    )
    every = create(place)
    assert (len(every.train), len(every.val), len(every.test)) == (12, 4, 6)
    assert every.rule.endswith("Not used: extra.")


def test_the_label_may_be_a_field(tmp_path):
    image = picture(tmp_path / "one.jpg").read_bytes()
    for split in ("train-0", "train-1", "test-0"):
        samples = [
            (f"{n}", {"jpg": image, "json": json.dumps({"kind": n % 2, "word": "x"}).encode()}) for n in range(4)
        ]
        shard(tmp_path / f"{split}.tar", samples)
    assert run(main, [str(tmp_path), "train=train-*.tar", "test=test-*.tar", "--field", "kind"]) == 0
    assert sorted(labels(create(tmp_path, "wds/x#kind").test)) == [0, 0, 1, 1]
    with pytest.raises(DataError, match=r"\b0 in .*test-0\.tar .*'x' .*'word' .*\.json.*allowed"):
        labels(create(tmp_path, "wds/x#word").test)
    with pytest.raises(DataError, match=r"has no class, a number, in .cls; it has jpg, json"):
        labels(create(tmp_path).test)


def test_info_is_written_by_the_script(place, capsys):
    info = json.loads((place / "_info.json").read_text())
    (place / "_info.json").unlink()
    with pytest.raises(DataError, match=r"cannot read .*_info.json, which tells the shards") as fault:
        create(place)
    command = str(fault.value).splitlines()[1].split()
    assert command[:2] == ["gcp", "webdataset-info"] and command[-2:] == [
        "train='train-*.tar'",
        "test='test-*.tar'",
    ]
    (place / "names.txt").write_text("class 0\nclass 1\nclass 2\n")
    words = [str(place), "train=train-*.tar", "test=test-*.tar", "--classes", str(place / "names.txt")]
    assert run(main, words) == 0
    assert json.loads((place / "_info.json").read_text()) == info
    assert "12 images in 4 shards" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nowhere", "train=*.tar"], "needed are a folder, and SPLIT=PATTERN"),
        (["."], "needed are a folder, and SPLIT=PATTERN"),
        ([".", "train=*.zip"], r"no file .*'\*\.zip'.*'train'"),
        ([".", "train=broken.tar"], "cannot read the shard .*broken.tar: ReadError"),
        ([".", "train=empty.tar"], "empty.tar holds no image"),
        ([".", "train=whole.tar", "--classes", "names.txt"], r"labels up to 1\b.*\b1 lines"),
        ([".", "train=whole.tar", "--classes", "none.txt"], r"names of the classes .*none\.txt"),
    ],
)
def test_the_script_refuses(tmp_path, monkeypatch, capsys, words, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.tar").write_text("no tar file at all" * 100)
    shard(tmp_path / "empty.tar", [])
    shard(tmp_path / "whole.tar", [("a", {"jpg": picture(tmp_path / "one.jpg").read_bytes(), "cls": b"1"})])
    (tmp_path / "names.txt").write_text("only\n")
    assert run(main, words) == 2
    assert re.search(text, capsys.readouterr().err)
    assert not (tmp_path / "_info.json").exists()


def test_the_script_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/webdataset_info.py", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "SPLIT=PATTERN" in done.stdout


SPLIT = {"filenames": ["train-0000.tar"], "shard_lengths": [5]}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"classes": None}, r"'classes'.*'splits' .*KeyError: 'classes'"),
        ({"classes": 3}, "must have 'classes'.*TypeError"),
        ({"splits": {"train": {"filenames": ["a.tar"]}}}, "KeyError: 'shard_lengths'"),
        ({"splits": {"train": {"filenames": ["a.tar"], "shard_lengths": [1, 2]}}}, "must have .*ValueError"),
        ({"splits": {"train": {"filenames": ["a.tar"], "shard_lengths": [0]}}}, "the shard length 0; allowed: whole"),
        ({"splits": {"train": {"filenames": [], "shard_lengths": []}}}, "a split without shards"),
        ({"splits": {"train": SPLIT}}, r"no split to score .*'train'"),
        ({"splits": {"test": SPLIT}}, r"no split to train on.*'test'.*needed .*'train'"),
        (
            {"splits": {"train": SPLIT, "test": SPLIT}},
            r"'train-0000\.tar' .*'test' .*'train-0000\.tar' .*'train'",
        ),
        ({"splits": {"train": SPLIT | {"filenames": ["pipe:touch x"]}}}, "names the shard 'pipe:touch x'; allowed"),
        ({"splits": {"train": SPLIT | {"filenames": ["https://a/b'; touch x"]}}}, "names the shard .*; allowed"),
        ({"splits": {"train": SPLIT | {"filenames": ["../a.tar"]}}}, "names the shard '../a.tar'; allowed"),
    ],
)
def test_an_info_file_that_cannot_be_right(place, values, text):
    change(place, **values)
    with pytest.raises(DataError, match=text):
        create(place)


def test_a_shard_of_train_that_is_linked_into_test(place):
    (place / "test-0001.tar").unlink()
    (place / "test-0001.tar").symlink_to(place / "train-0002.tar")
    with pytest.raises(DataError, match=r"'test-0001\.tar' .*'test' .*'train-0002\.tar' .*'train'"):
        create(place)


def test_a_single_shard_cannot_be_held_out(place):
    change(place, splits={"train": SPLIT, "test": {"filenames": ["test-0000.tar"], "shard_lengths": [4]}})
    with pytest.raises(DataError, match=r"training split .*single shard"):
        create(place)


def test_broken_shards(place):
    image = picture(place / "one.jpg").read_bytes()
    contents = {
        "cannot read the image b in .*test-0000.tar": [(n, {"jpg": image[:40], "cls": b"0"}) for n in "bcde"],
        r"a in .*\b2 images.* jpg, png, cls; allow": [("a", {"jpg": image, "png": image, "cls": b"0"})],
        r"a in .*\b0 images.* txt, cls; allowed: one": [("a", {"txt": b"", "cls": b"0"})],
        r"a in .* first dot.*'b\.0\.jpg'": [("a.b.0", {"jpg": image, "cls": b"0"})],
        r"a in .*'cat' .*\.cls; allowed: .*number": [("a", {"jpg": image, "cls": b"cat"})],
        "label of a in .* is 3; allowed: 0 to 2": [("a", {"jpg": image, "cls": b"3"})],
        r"test-0000\.tar .*\b1 images.*\b4\.$": [("a", {"jpg": image, "cls": b"0"})],
    }
    for text, samples in contents.items():
        shard(place / "test-0000.tar", samples)
        with pytest.raises(DataError, match=text):
            labels(create(place).test)
    whole = (place / "test-0001.tar").read_bytes()
    (place / "test-0001.tar").write_bytes(whole[:700])
    with pytest.raises(DataError, match=r"test-0001.tar"):
        labels(create(place).test.subset([1]))
    (place / "test-0002.tar").unlink()
    with pytest.raises(DataError, match=r"test-0002\.tar: FileNotFoundError"):
        labels(create(place).test.subset([2]))


def test_refused_with_the_reason(place):
    with pytest.raises(OptionError, match=r"data\.per_class of wds/birds.* 2; allowed: null"):
        create(place, per_class=2)
    with pytest.raises(OptionError, match=r"data\.root of wds/birds.* None; allowed: .*folder"):
        create(None)
    with pytest.raises(UnknownNameError, match=r"'wd/birds'.*Did you mean 'wds/birds'\?"):
        create(place, "wd/birds")
    with pytest.raises(DataError, match=r"'test' .*stream.* in order"):
        create(place).images("test")


def test_without_the_package(place, monkeypatch):
    monkeypatch.setattr("gcp.data.source.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"webdataset.* pip install .*\[data\]"):
        create(place)
