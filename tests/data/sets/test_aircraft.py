"""FGVC-Aircraft; torchvision's own reader is the oracle."""

import numpy as np
import pytest
from torchvision.datasets import FGVCAircraft
from trees import aircraft as made

from gcp.data import DATASETS, create_dataset
from gcp.errors import DataError


def aircraft(root):
    return create_dataset("aircraft", root, image_size=16, partial=True, val_fraction=0.25)


@pytest.mark.parametrize("layout", made.LAYOUTS)
def test_layouts(tree, layout):
    built = tree("aircraft", layout=layout)
    splits = aircraft(built["root"])
    assert splits.classes == made.VARIANTS
    assert len(splits.train) + len(splits.val) == built["train"] and len(splits.test) == built["test"]
    assert np.bincount(splits.val.labels).tolist() == [1, 1, 1]
    assert splits.test[0][0].shape == (3, 16, 16)


@pytest.mark.parametrize(("ours", "theirs"), [("train", "trainval"), ("test", "test")])
def test_as_torchvision_reads_it(tree, ours, theirs):
    root = tree("aircraft", layout="parent")["root"]
    found = DATASETS["aircraft"].obj.listing(root)
    oracle = FGVCAircraft(root, split=theirs)
    assert list(found.splits[ours].paths) == oracle._image_files
    assert found.splits[ours].labels.tolist() == oracle._labels
    assert list(found.classes) == oracle.classes


def test_a_variant_that_is_not_in_the_list(tree):
    root = tree("aircraft")["root"]
    (root / "data/images_variant_test.txt").write_text("0000004 Cesna 172\n")
    with pytest.raises(DataError, match=r"test\.txt .*'0000004 Cesna 172'.*'Cesna 172' .*'Cessna 172'\?"):
        aircraft(root)


@pytest.mark.parametrize("file", ["variants.txt", "images_variant_trainval.txt", "images_variant_test.txt", "images"])
def test_what_is_missing_is_named(tree, file):
    data = tree("aircraft", layout="data")["root"]
    (data / file).rename(data / "other")
    with pytest.raises(DataError, match=rf"{file}.* is missing|lacks '(data/)?{file}'") as error:
        aircraft(data)
    assert "\n" not in str(error.value)


def test_windows_line_ends(tree):
    root = tree("aircraft")["root"]
    for path in root.glob("data/*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert aircraft(root).classes == made.VARIANTS


def test_no_text(tree):
    root = tree("aircraft")["root"]
    (root / "data/variants.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"variants\.txt is not a text file"):
        aircraft(root)
