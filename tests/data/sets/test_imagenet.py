import re

import pytest
from trees.imagenet import write_meta
from trees.pictures import picture

from gcp.data import create_dataset
from gcp.errors import DataError

FLAT = ("kaggle", "devkit", "devkit_beside", "solution", "synsets", "numbers", "caffe")
GROUND_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"


def create(root):
    return create_dataset("imagenet", root, image_size=16, partial=True)


def refused(made, message):
    with pytest.raises(DataError, match=message) as error:
        create(made["root"])
    assert "\n" not in str(error.value)


def with_head(made, message):
    """A fault of the list that the fast check makes."""
    with pytest.raises(DataError, match=message):
        create(made["root"])


@pytest.mark.parametrize("layout", FLAT)
def test_labels_of_a_flat_folder(tree, layout):
    """In the devkit the numbers run against the order of the ids, so taking them for labels would fail here."""
    made = tree("imagenet", layout, classes=5)
    splits = create(made["root"])
    assert splits.classes == tuple(made["wnids"])
    found = {path.split("/")[-1]: label for path, label in zip(splits.test.paths, splits.test.labels, strict=True)}
    assert found == made["label_of"]
    assert all(
        made["wnids"][label] in path for path, label in zip(splits.train.paths, splits.train.labels, strict=True)
    )


@pytest.mark.parametrize("root", ["ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_any_parent_of_the_folders_of_kaggle(tree, root):
    made = tree("imagenet", "kaggle")
    splits = create(made["root"] / root)
    assert len(splits.test) == 6
    assert "labels of LOC_val_solution.csv" in splits.rule


def test_the_folder_around_the_download_of_kaggle(tree, tmp_path):
    tree("imagenet", "kaggle")
    assert re.match(r"ILSVRC/Data/CLS-LOC/\{train,val\}.*labels of LOC_val", create(tmp_path).rule)


def test_validation_images_are_the_test_split(tree):
    splits = create(tree("imagenet")["root"])
    assert all("/val/" in path for path in splits.test.paths)
    assert all("/train/" in path for images in (splits.train, splits.val) for path in images.paths)
    assert re.search(r"'val' .*test split", splits.rule)


def test_no_labels(tree):
    made = tree("imagenet", "caffe")
    (made["root"] / "val.txt").unlink()
    looked = "'ILSVRC2012_validation_ground_truth.txt', 'LOC_val_solution.csv', 'val.txt', 'val_labels.txt', "
    refused(made, rf"/val holds 6 images .*for {looked}")


def test_devkit_without_its_table(tree):
    made = tree("imagenet", "devkit")
    (made["root"] / GROUND_TRUTH).with_name("meta.mat").unlink()
    refused(made, r"devkit.* must also hold .*meta\.mat")


def test_devkit_with_the_table_of_other_classes(tree):
    made = tree("imagenet", "devkit")
    write_meta((made["root"] / GROUND_TRUTH).with_name("meta.mat"), ["n00000001", "n00000002"])
    refused(made, r"'n00000001', 'n00000002', 'n00001740'; allowed: n01440764")
    (made["root"] / GROUND_TRUTH).write_text("1\n2\n9\n1\n2\n2\n")
    refused(made, r"ground_truth\.txt .*'9'.*meta\.mat")


@pytest.mark.parametrize("layout", ["numbers", "caffe"])
def test_numbers_from_one(tree, layout):
    made = tree("imagenet", layout)
    path = made["root"] / ("val.txt" if layout == "caffe" else "val_labels.txt")
    lines = [line.split() for line in path.read_text().splitlines()]
    path.write_text("\n".join(" ".join([*line[:-1], str(int(line[-1]) + 1)]) for line in lines))
    refused(made, rf"{re.escape(str(path))} .*\b1 to 3\b.* 0 to 2\b")


def test_numbers_beyond_the_classes(tree):
    made = tree("imagenet", "numbers")
    (made["root"] / "val_labels.txt").write_text("0\n1\n2\n3\n0\n1\n")
    refused(made, r"'3'; allowed: n01440764 to n01442764, .*0 to 2")


@pytest.mark.parametrize("layout", ["devkit", "synsets", "numbers"])
@pytest.mark.parametrize("change", [lambda lines: lines[:-1], lambda lines: [*lines, lines[-1]]])
def test_number_of_lines(tree, layout, change):
    made = tree("imagenet", layout)
    names = {
        "devkit": GROUND_TRUTH,
        "synsets": "imagenet_2012_validation_synset_labels.txt",
        "numbers": "val_labels.txt",
    }
    path = made["root"] / names[layout]
    path.write_text("\n".join(change(path.read_text().splitlines())))
    refused(made, r"[57] labels .*\b6 images.*not complete")


@pytest.mark.parametrize(("layout", "name"), [("caffe", "val.txt"), ("solution", "LOC_val_solution.csv")])
def test_images_and_names_that_differ(tree, layout, name):
    made = tree("imagenet", layout)
    lost = made["root"] / "val" / "ILSVRC2012_val_00000002.JPEG"
    lost.rename(made["root"] / "x.JPEG")
    refused(made, rf"{name} .*\b6 labels .*\b5 images.*'ILSVRC2012_val_00000002'")
    picture(lost.with_name("other.JPEG"))
    refused(made, rf"{name} .*\b6 labels .*\b6 images.*'other'")


@pytest.mark.parametrize("layout", ["devkit", "synsets"])
def test_names_that_are_not_in_the_order_of_the_labels(tree, layout):
    made = tree("imagenet", layout, classes=6)
    for path in (made["root"] / "val").glob("*.JPEG"):
        path.rename(path.with_name(f"{int(path.stem[-8:])}.JPEG"))  # sorted: 1, 10, 11, 12, 2
    refused(made, r"ILSVRC2012_val_00000001\.JPEG .*image 2 .*\b10\.JPEG")


def test_lines_of_neither_form(tree):
    made = tree("imagenet", "caffe")
    (made["root"] / "val.txt").write_text("a 1\n2\n")
    refused(made, r"val\.txt .*'NAME LABEL'.*'LABEL'")


def test_a_damaged_table_of_kaggle(tree):
    made = tree("imagenet", "solution")
    (made["root"] / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nILSVRC2012_val_00000001\n")
    refused(made, r"LOC_val_solution\.csv .*'ILSVRC2012_val_00000001'.*'IMAGE,WNID X Y X Y'")


def test_a_class_missing_in_val(tree):
    made = tree("imagenet")
    (made["root"] / "val" / made["wnids"][1]).rename(made["root"] / "val" / "n99999999")
    with_head(made, r"\n  .*val .*'n01441764'.*val .*'n99999999'.*train")


def test_a_class_without_an_image_of_a_flat_val(tree):
    made = tree("imagenet", "numbers")
    (made["root"] / "val_labels.txt").write_text("0\n0\n2\n0\n0\n2\n")
    with pytest.raises(DataError, match=r"\n  test .*\b1 .*\b3 .*'n01441764'$"):
        create(made["root"])


def test_an_empty_class(tree):
    made = tree("imagenet", "caffe")
    (made["root"] / "train" / "n00000000").mkdir()
    with_head(made, r"\n  .*'n00000000' .*train\..*\.jpg")


def test_no_val(tree):
    made = tree("imagenet")
    (made["root"] / "val").rename(made["root"] / "Val")
    refused(made, r"\{train,val\}.*'val'.*'Val', 'train'.*Did you mean 'Val'\?")
