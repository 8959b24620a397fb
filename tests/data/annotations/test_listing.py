"""Annotations in text files: what CUB-200-2011 and NABirds say, and lists that do not fit each other."""

import re

import pytest

from gcp.data import create_dataset
from gcp.errors import DataError

LISTS = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")


def create(name, made, **options):
    return create_dataset(name, made["root"], image_size=16, partial=True, **options)


def change(path, edit):
    lines = path.read_text().splitlines()
    path.write_text("\n".join(edit(lines)) + "\n")


def test_cub_labels_are_those_of_the_folders(tree):
    splits = create("cub", tree("cub"))
    assert splits.classes == ("001.Bird_0", "002.Bird_1", "003.Bird_2")
    for images in (splits.train, splits.val, splits.test):
        assert [path.split("/")[-2] for path in images.paths] == [splits.classes[label] for label in images.labels]
    # The builder made the first and the third image of each class test images.
    assert {path[-8:-4] for path in splits.test.paths} == {"0000", "0002"}


def test_nabirds_classes_are_the_leaves_in_the_order_of_their_numbers(tree):
    splits = create("nabirds", tree("nabirds"))
    assert splits.classes == tuple(f"Bird {number} (Adult male)" for number in (295, 302, 309))
    assert [path.split("/")[-2] for path in splits.test.paths] == ["0295"] * 2 + ["0302"] * 2 + ["0309"] * 2
    assert splits.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_numbers_are_sorted_as_numbers(tree):
    made = tree("nabirds", classes=103, per_class=2)  # 295 to 1009
    splits = create("nabirds", made)
    assert len(splits.classes) == 103 and splits.classes[-1] == "Bird 1009 (Adult male)"


@pytest.mark.parametrize("name", ["cub", "nabirds"])
@pytest.mark.parametrize("missing", LISTS)
def test_list_that_is_missing(tree, name, missing):
    made = tree(name)
    (made["root"] / missing).rename(made["root"] / f"_{missing}")
    message = rf"looks like .*, but lacks '{missing}'; it holds .*\. Did you mean '_{missing}'\?"
    with pytest.raises(DataError, match=message):
        create(name, made)


def test_the_folder_of_images_is_missing(tree):
    made = tree("cub")
    (made["root"] / "images").rename(made["root"] / "image")
    with pytest.raises(DataError, match=r"but lacks 'images'; it holds .*\. Did you mean 'image'\?"):
        create("cub", made)


@pytest.mark.parametrize("name", ["cub", "nabirds"])
@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        (
            "image_class_labels.txt",
            lambda lines: lines[:-1],
            r"images.txt has 18 images and .*labels.txt has 17; 1 are in",
        ),
        (
            "images.txt",
            lambda lines: lines[1:],
            r"images.txt has 17 images and .*image_class_labels.txt has 18; 1 are in",
        ),
        ("train_test_split.txt", lambda lines: [*lines, "77 1"], r"train_test_split.txt has 19; .*, such as '77'"),
        (
            "train_test_split.txt",
            lambda lines: [lines[0][:-1] + "2", *lines[1:]],
            r"gives '2' for .* 1 for training or 0",
        ),
        ("image_class_labels.txt", lambda lines: [*lines, lines[-1]], r"image_class_labels.txt has the id '.*' twice"),
        (
            "images.txt",
            lambda lines: [*lines, "alone"],
            r"images.txt has the line 'alone'; each line should be an id and",
        ),
        ("train_test_split.txt", lambda lines: [], r"train_test_split.txt has 0; 18 are in one"),
        ("images.txt", lambda lines: [], r"images.txt has 0 images"),
        (
            "classes.txt",
            lambda lines: lines[:-1],
            r"image_class_labels.txt gives '3(09)?' for .*\(6 such lines\); allowed",
        ),
    ],
)
def test_lists_that_do_not_fit(tree, name, file, edit, message):
    made = tree(name)
    change(made["root"] / file, edit)
    with pytest.raises(DataError, match=message):
        create(name, made)


@pytest.mark.parametrize(
    ("name", "step", "message"),
    [
        (
            "cub",
            -1,
            r"image_class_labels.txt gives '0' for image '1' \(6 such lines\); allowed: a number of classes.txt",
        ),
        (
            "cub",
            +1,
            r"image_class_labels.txt gives '4' for image '13' \(6 such lines\); allowed: a number of classes.txt",
        ),
        ("nabirds", -1, r"image_class_labels.txt gives '308' for"),
    ],
)
def test_labels_from_the_wrong_number(tree, name, step, message):
    made = tree(name)

    def shift(lines):
        pairs = [line.split() for line in lines]
        return [f"{image} {int(label) + step}" for image, label in pairs]

    change(made["root"] / "image_class_labels.txt", shift)
    with pytest.raises(DataError, match=message):
        create(name, made)


def test_labels_that_are_off_by_one_and_all_known(tree):
    """The hierarchy of NABirds has names for the neighbours of a number, and the folders say that they are wrong."""
    made = tree("nabirds")
    change(made["root"] / "image_class_labels.txt", lambda lines: [line.replace(" 295", " 1") for line in lines])
    with pytest.raises(DataError, match=r"into class '1', whose folder is '0001', and images.txt has it as '0295/"):
        create("nabirds", made)


def test_numbers_from_zero_in_both_lists(tree):
    made = tree("cub")
    for name, column in (("image_class_labels.txt", 1), ("classes.txt", 0)):

        def shift(lines, column=column):
            words = [line.split() for line in lines]
            return [" ".join(str(int(w) - 1) if i == column else w for i, w in enumerate(line)) for line in words]

        change(made["root"] / name, shift)
    splits = create("cub", made)
    assert [path.split("/")[-2] for path in splits.test.paths] == [splits.classes[i] for i in splits.test.labels]


def test_an_empty_class(tree):
    made = tree("cub")
    with open(made["root"] / "classes.txt", "a") as file:
        file.write("4 004.Dodo\n")
    with pytest.raises(DataError) as error:
        create("cub", made)
    # One message with every fault.
    assert str(error.value).startswith(f"2 faults in {made['root']}, read as CUB_200_2011/{{images, images.txt, ")
    for split in ("train", "test"):
        assert f"\n  {split} has no image of 1 of the 4 classes: '004.Dodo'" in str(error.value)


@pytest.mark.parametrize("name", ["cub", "nabirds"])
def test_a_class_that_is_missing_in_test(tree, name):
    made = tree(name)
    change(
        made["root"] / "train_test_split.txt", lambda lines: [f"{line.split()[0]} 1" for line in lines[:6]] + lines[6:]
    )
    with pytest.raises(DataError, match=r"  test has no image of 1 of the 3 classes: '(001.Bird_0|Bird 295 .*)'$"):
        create(name, made)


def test_no_test_image_at_all(tree):
    made = tree("cub")
    change(made["root"] / "train_test_split.txt", lambda lines: [f"{line.split()[0]} 1" for line in lines])
    with pytest.raises(DataError, match=r"  test has no image of 3 of the 3 classes: '001.Bird_0', '002.Bird_1', '003"):
        create("cub", made)


def test_a_list_that_is_no_text(tree):
    made = tree("cub")
    (made["root"] / "images.txt").write_bytes(b"\xff\xfe\x00 1")
    with pytest.raises(DataError, match=r"images\.txt is not a text file in UTF-8"):
        create("cub", made)
    (made["root"] / "images.txt").unlink()
    (made["root"] / "images.txt").mkdir()
    with pytest.raises(DataError, match=rf"cannot read the list {re.escape(str(made['root']))}/images\.txt: Is a dir"):
        create("cub", made)


def test_lines_of_other_systems(tree):
    made = tree("cub")
    before = create("cub", made).fingerprint()
    for name in LISTS:
        path = made["root"] / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"  \r\n") + b"\r\n")
    assert create("cub", made).fingerprint() == before
