"""Stanford Dogs."""

import re

import numpy as np
import pytest
from trees import dogs as made

from gcp.data import DATASETS, create_dataset
from gcp.errors import DataError


def dogs(root):
    return create_dataset("dogs", root, image_size=16, partial=True, val_fraction=0.25)


@pytest.mark.parametrize("layout", made.LAYOUTS)
def test_layouts(tree, layout):
    built = tree("dogs", layout=layout)
    splits = dogs(built["root"])
    assert splits.classes == ("Chihuahua", "Walker_hound", "kelpie")
    assert len(splits.train) + len(splits.val) == built["train"] and len(splits.test) == built["test"]
    # Independent of the labels in the lists: the folder of an image is its breed.
    for images in (splits.train, splits.val, splits.test):
        breeds = [path.split("/")[-2].partition("-")[2] for path in images.paths]
        assert breeds == [splits.classes[label] for label in images.labels]
    assert splits.test[0][0].shape == (3, 16, 16)


def test_the_rule_warns_of_imagenet(tree):
    assert re.search(r"pretrained .*ImageNet .*test images", dogs(tree("dogs")["root"]).rule)


@pytest.mark.parametrize("label", [0, -1])
def test_labels_from_zero(tree, label):
    root = tree("dogs")["root"]
    made.save(root / "train_list.mat", [("n1-a/x.jpg", label), ("n1-b/x.jpg", 1)])
    with pytest.raises(DataError, match=rf"train_list\.mat .* {label} to 1\b.* 1 to 1\b"):
        dogs(root)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("n1-a/x.jpg", 1)], r"label 1 .*'n1-a' .*'n02085620-Chihuahua'"),
        ([(f"{made.BREEDS[0]}/x.jpg", 5)], "give label 1 to|no image with label 4"),
        ([(f"{made.BREEDS[0]}/x.jpg", 1.5)], r"whole numbers.* 1\.5"),
    ],
)
def test_lists_that_do_not_fit(tree, pairs, message):
    root = tree("dogs")["root"]
    made.save(root / "train_list.mat", pairs)
    with pytest.raises(DataError, match=message):
        dogs(root)


@pytest.mark.parametrize("kept", [0, 100, 150])
def test_truncated_lists(tree, kept):
    root = tree("dogs", layout="lists")["root"]
    path = root / "lists/test_list.mat"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"^[^\n]*test_list\.mat: [^\n]*replace[^\n]*$"):
        dogs(root)


def test_lists_that_are_missing(tree):
    root = tree("dogs")["root"]
    (root / "test_list.mat").unlink()
    with pytest.raises(DataError, match=r"lacks 'test_list\.mat'"):
        dogs(root)


def test_images_that_are_missing(tree):
    root = tree("dogs")["root"]
    (root / "Images").rename(root / "Pictures")
    with pytest.raises(DataError, match=r"no images.*Images/"):
        dogs(root)


def test_one_breed(tree):
    built = tree("dogs", classes=1, per_class=1)
    found = DATASETS["dogs"].obj.listing(built["root"])
    assert found.classes == ("Chihuahua",) and np.array_equal(found.splits["train"].labels, [0])
