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
    message = rf"lacks '{missing}'.* it holds .*Did you mean '_{missing}'\?"
    with pytest.raises(DataError, match=message):
        create(name, made)


def test_the_folder_of_images_is_missing(tree):
    made = tree("cub")
    (made["root"] / "images").rename(made["root"] / "image")
    with pytest.raises(DataError, match=r"lacks 'images'.*'image'\?"):
        create("cub", made)


@pytest.mark.parametrize("name", ["cub", "nabirds"])
@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        (
            "image_class_labels.txt",
            lambda lines: lines[:-1],
            r"images\.txt .*18 .*labels\.txt .*17\b.* 1 ",
        ),
        (
            "images.txt",
            lambda lines: lines[1:],
            r"images\.txt .*17 .*image_class_labels\.txt .*18\b.* 1 ",
        ),
        ("train_test_split.txt", lambda lines: [*lines, "77 1"], r"train_test_split\.txt .*19\b.*'77'"),
        (
            "train_test_split.txt",
            lambda lines: [lines[0][:-1] + "2", *lines[1:]],
            r"gives '2' for .* 1 for training or 0",
        ),
        ("image_class_labels.txt", lambda lines: [*lines, lines[-1]], r"image_class_labels\.txt .*twice"),
        (
            "images.txt",
            lambda lines: [*lines, "alone"],
            r"images\.txt .*'alone'.* id ",
        ),
        ("train_test_split.txt", lambda lines: [], r"train_test_split.txt has 0; 18 are in one"),
        ("images.txt", lambda lines: [], r"images.txt has 0 images"),
        (
            "classes.txt",
            lambda lines: lines[:-1],
            r"image_class_labels\.txt .*'3(09)?' .*\(6 .*allowed",
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
            r"image_class_labels\.txt .*'0' .*'1' .*\b6 .*allowed: .*classes\.txt",
        ),
        (
            "cub",
            +1,
            r"image_class_labels\.txt .*'4' .*'13' .*\b6 .*allowed: .*classes\.txt",
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
    with pytest.raises(DataError, match=r"class '1'.*'0001'.*images\.txt .*'0295/"):
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
    assert re.match(
        rf"2 faults .*{re.escape(str(made['root']))}.* CUB_200_2011/\{{images, images\.txt, ", str(error.value)
    )
    for split in ("train", "test"):
        assert re.search(rf"\n  {split} .*\b1 .*\b4 .*'004\.Dodo'", str(error.value))


@pytest.mark.parametrize("name", ["cub", "nabirds"])
def test_a_class_that_is_missing_in_test(tree, name):
    made = tree(name)
    change(
        made["root"] / "train_test_split.txt", lambda lines: [f"{line.split()[0]} 1" for line in lines[:6]] + lines[6:]
    )
    with pytest.raises(DataError, match=r"test .*\b1 .*\b3 .*'(001\.Bird_0|Bird 295 .*)'$"):
        create(name, made)


def test_no_test_image_at_all(tree):
    made = tree("cub")
    change(made["root"] / "train_test_split.txt", lambda lines: [f"{line.split()[0]} 1" for line in lines])
    with pytest.raises(DataError, match=r"test .*\b3 .*\b3 .*'001\.Bird_0', '002\.Bird_1', '003"):
        create("cub", made)


def test_a_list_that_is_no_text(tree):
    made = tree("cub")
    (made["root"] / "images.txt").write_bytes(b"\xff\xfe\x00 1")
    with pytest.raises(DataError, match=r"images\.txt is not a text file in UTF-8"):
        create("cub", made)
    (made["root"] / "images.txt").unlink()
    (made["root"] / "images.txt").mkdir()
    with pytest.raises(DataError, match=rf"{re.escape(str(made['root']))}/images\.txt: Is a dir"):
        create("cub", made)


def test_lines_of_other_systems(tree):
    made = tree("cub")
    before = create("cub", made).fingerprint()
    for name in LISTS:
        path = made["root"] / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"  \r\n") + b"\r\n")
    assert create("cub", made).fingerprint() == before
