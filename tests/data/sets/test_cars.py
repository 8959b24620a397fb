"""Stanford Cars; torchvision's own reader is the oracle for the layout that it knows."""

import re
import shutil

import numpy as np
import pytest
from scipy.io import savemat
from torchvision.datasets import StanfordCars
from trees import cars as made

from gcp.data import DATASETS, create_dataset
from gcp.errors import DataError

UNLABELLED = r"^[^\n]*cars_test_annos\.mat [^\n]*no labels[^\n]*cars_test_annos_withlabels\.mat[^\n]* into [^\n]*$"


def cars(root, **options):
    return create_dataset("cars", root, image_size=16, partial=True, val_fraction=0.25, **options)


def listing(root):
    return DATASETS["cars"].obj.listing(root)


@pytest.mark.parametrize("layout", made.LAYOUTS)
def test_layouts(tree, layout):
    built = tree("cars", layout=layout)
    splits = cars(built["root"])
    assert len(splits.train) + len(splits.val) == built["train"] and len(splits.test) == built["test"]
    assert [name.replace("C-V", "C/V") for name in splits.classes] == list(made.NAMES)
    # Six images of a class, of which one is held out for validation: every label is there in every split.
    assert np.bincount(splits.train.labels).tolist() == [3, 3, 3]
    assert np.bincount(splits.val.labels).tolist() == [1, 1, 1]
    assert np.bincount(splits.test.labels).tolist() == [2, 2, 2]
    assert splits.test[0][0].shape == (3, 16, 16)


@pytest.mark.parametrize("layout", made.LAYOUTS[1:])
def test_from_the_folder_above(tree, layout):
    root = tree("cars", layout=layout)["root"]
    found, above = listing(root), listing(root.parent)
    assert above.splits["train"].paths == found.splits["train"].paths


@pytest.mark.parametrize("split", ["train", "test"])
def test_as_torchvision_reads_it(tree, split):
    root = tree("cars", layout="torchvision")["root"]
    theirs, found = StanfordCars(root, split=split), listing(root)
    ours = found.splits[split]
    assert list(zip(ours.paths, ours.labels.tolist(), strict=True)) == theirs._samples
    assert list(found.classes) == theirs.classes


def test_one_file_of_annotations_has_both_splits(tree):
    root = tree("cars", layout="car_ims")["root"]
    found = listing(root)
    # The tree counts backwards: test labels 2 1 0 2 1 0, then those of train.
    assert found.splits["test"].paths == tuple(f"{root}/car_ims/{number:06d}.jpg" for number in range(1, 7))
    assert found.splits["test"].labels.tolist() == [2, 1, 0, 2, 1, 0]
    assert found.splits["train"].paths[0] == f"{root}/car_ims/000007.jpg"


def test_folders_say_how_classes_are_numbered(tree):
    assert re.search("folders .*sorted", cars(tree("cars", layout="folders")["root"]).rule)


@pytest.mark.parametrize("layout", ["torchvision", "devkit_labels", "kaggle"])
def test_annotations_without_labels(tree, layout):
    root = tree("cars", layout=layout)["root"]
    (labelled,) = root.rglob("cars_test_annos_withlabels*.mat")
    (bare,) = root.rglob("cars_test_annos.mat")
    labelled.unlink()
    with pytest.raises(DataError, match=UNLABELLED):
        cars(root)
    # The same file under the name of the other.
    shutil.copy(bare, labelled)
    with pytest.raises(DataError, match=r"withlabels[^\n]*\.mat [^\n]*no labels"):
        cars(root)


@pytest.mark.parametrize(
    ("layout", "file", "message"),
    [
        (
            "torchvision",
            "devkit/cars_train_annos.mat",
            r"no cars_train_annos\.mat.* dev",
        ),
        ("torchvision", "devkit/cars_meta.mat", r"has no cars_meta\.mat"),
        ("kaggle", "cars_train", r"cars_annos.mat, .*car_ims/|looks like"),
        ("car_ims", "cars_annos.mat", r"car_ims/ .*lacks 'cars_annos\.mat'"),
    ],
)
def test_what_is_missing_is_named(tree, layout, file, message):
    root = tree("cars", layout=layout)["root"]
    (path,) = [path for path in root.rglob(file.rpartition("/")[2]) if str(path).endswith(file)][:1]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=message) as error:
        cars(root)
    assert "\n" not in str(error.value)


def test_the_one_file_of_another_layout(tree):
    root = tree("cars", layout="kaggle")["root"]
    shutil.rmtree(root / "car_devkit")
    made.save(root / "cars_annos.mat", [("car_ims/000001.jpg", 1)], ("relative_im_path", "class"), ["a"])
    with pytest.raises(DataError, match=r"no cars_train_annos\.mat.* cars_annos\.mat, .* car_ims/"):
        cars(root)


def test_no_layout(tmp_path):
    (tmp_path / "birds").mkdir()
    with pytest.raises(DataError, match=r"not in .*car_ims/ .*cars_annos\.mat.*'birds'"):
        cars(tmp_path)


def test_labels_from_zero(tree):
    root = tree("cars", layout="torchvision")["root"]
    path = root / "stanford_cars/devkit/cars_train_annos.mat"
    records = [(label, f"{number:05d}.jpg") for number, label in enumerate([0, 1, 2], 1)]
    made.save(path, records, ("class", "fname"))
    with pytest.raises(DataError, match=rf"labels .*{re.escape(str(path))} .*\b0 to 2\b.* 1 to 3\b"):
        cars(root)


@pytest.mark.parametrize("kept", [0, 4, 100, 128, 150, -9])
@pytest.mark.parametrize("file", ["cars_train_annos.mat", "cars_meta.mat"])
def test_truncated_annotations(tree, kept, file):
    root = tree("cars", layout="torchvision")["root"]
    path = root / "stanford_cars/devkit" / file
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=rf"{file}(: .*replace| .*no variable)"):
        cars(root)


def test_other_content(tree):
    root = tree("cars", layout="torchvision")["root"]
    path = root / "stanford_cars/devkit/cars_train_annos.mat"
    savemat(path, {"annotation": np.zeros(3)})
    with pytest.raises(DataError, match=r"no variable 'annotations'.*'annotation'\?"):
        cars(root)
    savemat(path, {"annotations": np.zeros(3)})
    with pytest.raises(DataError, match=r"the records of .* have no field 'fname', but none"):
        cars(root)
    made.save(path, [("one", "00001.jpg")], ("class", "fname"))
    with pytest.raises(DataError, match=r"should hold whole numbers here; the first is 'one'"):
        cars(root)
    made.save(path, [(1, 7)], ("class", "fname"))
    with pytest.raises(DataError, match=r"should hold strings here; got 7"):
        cars(root)


def test_one_image_and_one_class(tree):
    root = tree("cars", layout="torchvision", classes=1, per_class=1)["root"]
    assert [len(files) for files in listing(root).splits.values()] == [1, 2]
    assert listing(root).classes == made.NAMES[:1]
