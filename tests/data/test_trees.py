"""Every layout of every data set on disk, in small, against what its builder says that it wrote."""

import os
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from gcp.data import DATASETS, create_dataset
from gcp.errors import DataError

SETS = ("folder", "imagenet", "cub", "nabirds")
BOTH = ("cub", "nabirds")


def layouts(*names):
    return [(name, layout) for name in names for layout in import_module(f"trees.{name}").LAYOUTS]


def create(name, root, **options):
    return create_dataset(name, root, **{"image_size": 16, "partial": True} | options)


def parts(splits):
    return {"train": splits.train, "val": splits.val, "test": splits.test}


@pytest.mark.parametrize(("name", "layout"), layouts(*SETS))
def test_classes_and_counts(tree, name, layout):
    made = tree(name, layout, folder="Vögel und 鸟 images")
    splits = create(name, made["root"])
    assert len(splits.classes) == made["classes"]
    assert len(splits.test) == made["test"]
    assert np.bincount(splits.test.labels).tolist() == [made["test"] // made["classes"]] * made["classes"]
    if made["val"] is None:
        assert len(splits.train) + len(splits.val) == made["train"] and len(splits.val) == made["classes"]
        assert re.search(r"class by class.* 0\.1\b.*seed 0\b", splits.rule)
    else:
        assert len(splits.train) == made["train"] and len(splits.val) == made["val"]
    images, labels = splits.train.read(np.arange(3), np.arange(3, dtype=np.uint64))
    assert images.shape == (3, 3, 16, 16) and labels.tolist() == splits.train.labels[:3].tolist()


@pytest.mark.parametrize(("name", "layout"), layouts(*SETS))
def test_splits_are_disjoint_in_content(tree, name, layout):
    splits = create(name, tree(name, layout)["root"])
    contents = [Path(path).read_bytes() for images in parts(splits).values() for path in images.paths]
    assert len(set(contents)) == len(contents) == sum(map(len, parts(splits).values()))


@pytest.mark.parametrize(("name", "layout"), layouts("imagenet", "cub", "nabirds"))
def test_published_counts_are_asked_for(tree, name, layout):
    made, source = tree(name, layout), DATASETS[name].obj
    hint = r"data\.partial=true"
    expected = "\n".join(
        [
            rf"^3 faults .*{re.escape(str(made['root']))}.*",
            rf"  3 classes.* {source.classes:,}; .*{hint}.*",
            rf"  train .*\b{made['train']} .* {source.counts['train']:,}; .*{hint}.*",
            rf"  test .*\b{made['test']} .* {source.counts['test']:,}; .*{hint}$",
        ]
    )
    with pytest.raises(DataError, match=expected):
        create(name, made["root"], partial=False)


@pytest.mark.parametrize(("name", "layout"), layouts("imagenet", *BOTH))
def test_root_one_level_too_high(tree, tmp_path, name, layout):
    made = tree(name, layout)
    if layout not in ("kaggle", "nested"):  # whose root is the folder above already
        assert len(create(name, tmp_path).test) == made["test"]


@pytest.mark.parametrize(
    ("name", "layout", "below", "root"),
    [
        ("cub", "annotations", "images", ""),
        ("cub", "nested", "CUB_200_2011/images", "CUB_200_2011"),
        ("cub", "train_val", "train", ""),
        ("nabirds", "annotations", "images", ""),
        ("imagenet", "folders", "val", ""),
        ("imagenet", "caffe", "train", ""),
        ("imagenet", "kaggle", "ILSVRC/Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC"),
    ],
)
def test_root_one_level_too_low(tree, name, layout, below, root):
    above = tree(name, layout)["root"]
    given, right = (re.escape(str(above / place)) for place in (below, root))
    with pytest.raises(DataError, match=rf"{given} .* data\.root={right}\."):
        create(name, above / below)


@pytest.mark.parametrize(("name", "below"), [("cub", "CUB_200_2011"), ("nabirds", "nabirds")])
def test_root_two_levels_too_high(tree, tmp_path, name, below):
    tree(name, "nested", folder="my birds")
    below = tmp_path / "my birds" / below
    message = rf"{below}, .*{tmp_path}.* Set data\.root='{below}'"
    with pytest.raises(DataError, match=message):
        create(name, tmp_path)


@pytest.mark.parametrize("name", ("imagenet", *BOTH))
def test_archives_as_they_came(tmp_path, name):
    (tmp_path / "photos.tar").touch()
    (tmp_path / "CUB_200_2011.tgz").touch()
    with pytest.raises(DataError, match=r"Unpack 'CUB_200_2011\.tgz', 'photos\.tar' there\.$"):
        create(name, tmp_path)


def test_imagenet_with_an_archive_for_each_class(tree, tmp_path):
    root = tree("imagenet", "folders", folder="of mine")["root"]
    for place in sorted((root / "train").iterdir()):
        subprocess.run(["tar", "-cf", f"{place}.tar", *os.listdir(place)], cwd=place, check=True)
        shutil.rmtree(place)
    with pytest.raises(DataError, match=r"Unpack 'n\d+\.tar', .*'n\d+\.tar'") as error:
        create("imagenet", root)
    subprocess.run(["bash", "-c", str(error.value).partition(" by: ")[2]], check=True)
    assert len(create("imagenet", root).classes) == 3


@pytest.mark.parametrize("name", SETS)
def test_nothing_is_held_out(tree, name):
    made = tree(name)
    splits = create(name, made["root"], val_fraction=0)
    if made["val"] is None:
        assert len(splits.train) == made["train"] and len(splits.val) == 0
        assert re.search(r"validation: none.*val_fraction 0\b", splits.rule)
    else:
        assert len(splits.val) == made["val"], "it has a validation split of its own"
    assert splits.val.labels.shape == (len(splits.val),)


@pytest.mark.parametrize("name", SETS)
def test_root_misspelt(tree, name):
    root = tree(name, folder="birds")["root"]
    with pytest.raises(DataError, match=r"'brids'.* Did you mean 'birds'\?"):
        create(name, root.with_name("brids"))


@pytest.mark.parametrize("name", ("imagenet", *BOTH))
def test_another_folder(tmp_path, name):
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DataError, match=r"not in .* its folders .*'holiday'"):
        create(name, tmp_path)


@pytest.mark.parametrize("name", ("cub", "nabirds"))
def test_two_copies_below(tree, tmp_path, name):
    tree(name, folder="a")
    tree(name, folder="b")
    with pytest.raises(DataError, match=r"2 times.*data\.root=.*/a or "):
        create(name, tmp_path)


@pytest.mark.parametrize(("name", "layout"), [("cub", "annotations"), ("cub", "nested"), *layouts("nabirds")])
def test_missing_images(tree, name, layout):
    root = tree(name, layout)["root"]
    path = create(name, root).test.paths[2]
    os.unlink(path)
    with pytest.raises(DataError, match=rf"1 of 6 .*test missing.*{re.escape(path)}$"):
        create(name, root)
    os.symlink("nowhere", path)
    with pytest.raises(DataError, match=rf"1 of 6 .*test missing.*{re.escape(path)}$"):
        create(name, root)


@pytest.mark.parametrize(("name", "layout"), layouts("cub", "nabirds", "imagenet"))
def test_unreadable_image(tree, name, layout):
    root = tree(name, layout)["root"]
    path = create(name, root).test.paths[0]
    Path(path).write_bytes(b"no image")
    with pytest.raises(DataError, match=rf"\n  .*{re.escape(path)}: UnidentifiedImageError"):
        create(name, root)


@pytest.mark.parametrize(("name", "layout"), layouts("cub", "nabirds", "imagenet"))
def test_a_file_in_two_splits(tree, name, layout):
    """A test image is replaced by a link to a training image."""
    root = tree(name, layout)["root"]
    splits = create(name, root)
    train, test = splits.train.paths[0], splits.test.paths[0]
    shutil.move(test, root.parent)
    os.symlink(train, test)
    with pytest.raises(DataError, match=rf"1 file .*train .*test.* {re.escape(train)}"):
        create(name, root)
