import re

import numpy as np
import pytest
import torch
from PIL import Image

from gcp.data import Loader, create_dataset
from gcp.errors import DataError, OptionError

FULL = {"train": {"cat": 5, "dog": 4}, "val": {"cat": 1, "dog": 2}, "test": {"cat": 3, "dog": 1}}


def without(*names):
    return {name: classes for name, classes in FULL.items() if name not in names}


def names(images):
    return [path.split("/images/")[1] for path in images.paths]


def folder(root, **options):
    return create_dataset("folder", root, image_size=16, **options)


def test_three_splits_are_used_as_they_are(make_tree):
    splits = folder(make_tree(FULL))
    assert splits.classes == ("cat", "dog")
    assert names(splits.val) == ["val/cat/000.jpg", "val/dog/000.jpg", "val/dog/001.jpg"]
    assert splits.val.labels.tolist() == [0, 1, 1]
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [9, 3, 4]
    rule = r"\{train,val,test\}/class\b.*Test: 4 .*validation: 3 .*of its own.*training: 9\b"
    assert re.search(rule, splits.rule)


def test_validation_is_held_out_of_train(make_tree):
    splits = folder(make_tree(without("val")), val_fraction=0.25)
    assert np.bincount(splits.val.labels).tolist() == [1, 1]
    assert sorted(names(splits.train) + names(splits.val)) == [f"train/cat/00{i}.jpg" for i in range(5)] + [
        f"train/dog/00{i}.jpg" for i in range(4)
    ]
    assert names(splits.test)[0] == "test/cat/000.jpg"
    assert re.search(r"validation: 2 of the 9 .*class by class.* 0\.25\b", splits.rule)


def test_val_without_test_is_the_test_split(make_tree):
    splits = folder(make_tree(without("test")))
    assert names(splits.test) == ["val/cat/000.jpg", "val/dog/000.jpg", "val/dog/001.jpg"]
    assert all(name.startswith("train/") for name in names(splits.train) + names(splits.val))
    assert re.search(
        r"\{train,val\}/class\b.*Test: 3 .*validation: 2 of the 9 .*'val' .*test split.*'test'", splits.rule
    )


def test_other_folders_are_named(make_tree):
    root = make_tree(without("val"))
    (root / "validation").mkdir()
    assert folder(root).rule.endswith("Not used: validation.")


@pytest.mark.parametrize("suffix", [".jpeg", ".JPG", ".png", ".bmp", ".webp"])
def test_formats(make_tree, suffix):
    splits = folder(make_tree(without("val"), suffix))
    assert splits.test[0][0].shape == (3, 16, 16)


def test_files_that_are_no_images_are_left_out(make_tree):
    root = make_tree(FULL)
    for name in ("notes.txt", ".hidden.jpg"):
        (root / "train" / "cat" / name).write_text("x")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "dog" / "more").mkdir()
    Image.new("RGB", (9, 9)).save(root / "train" / "dog" / "more" / "x.png")
    splits = folder(root)
    assert len(splits.train) == 10 and names(splits.train)[-1] == "train/dog/more/x.png"


def test_evaluation_transform_crops_the_centre_and_leaves_normalisation_to_the_device(make_tree):
    root = make_tree(without("val"))
    path = root / "test" / "cat" / "000.png"
    # A grey image with a white left edge, which a centre crop of a wide image leaves out.
    image = Image.new("RGB", (200, 64), (128, 128, 128))
    image.paste((255, 255, 255), (0, 0, 40, 64))
    image.save(path)
    splits = folder(root)
    read = splits.test[names(splits.test).index("test/cat/000.png")][0]
    assert torch.equal(read, torch.full((3, 16, 16), 128, dtype=torch.uint8))
    grey = (128 / 255 - torch.tensor((0.485, 0.456, 0.406))) / torch.tensor((0.229, 0.224, 0.225))
    torch.testing.assert_close(splits.test.normalize(read[None])[0], grey.view(3, 1, 1).expand(3, 16, 16))


def test_grey_images_and_one_channel(make_tree):
    root = make_tree(without("val"))
    Image.new("L", (20, 20), 77).save(root / "test" / "cat" / "aaa.png")
    assert folder(root).test[0][0].shape == (3, 16, 16)
    assert folder(root, in_chans=1).test[0][0].shape == (1, 16, 16)
    with pytest.raises(OptionError, match=r"data\.in_chans of folder: got 4; allowed: 1 or 3"):
        folder(root, in_chans=4)


def test_transparent_palette(make_tree):
    root = make_tree(without("val"))
    Image.new("P", (20, 20)).save(root / "test" / "cat" / "000.png", transparency=0)
    assert folder(root).test[0][0].shape == (3, 16, 16)


def test_augmentation_follows_the_seed_and_leaves_the_random_state(make_tree, random_state):
    train = folder(make_tree(FULL)).train
    seeds = np.array([11, 12, 13], dtype=np.uint64)
    before = random_state()
    batch, labels = train.read([0, 5, 6], seeds)
    assert random_state() == before
    assert labels.tolist() == [0, 1, 1]
    assert torch.equal(batch[2:], train.read([6], seeds[2:])[0])
    assert not torch.equal(batch[2:], train.read([6], seeds[:1])[0])


def test_transform_none(make_tree):
    train = folder(make_tree(FULL), transform="none").train
    assert torch.equal(train.read([0], np.array([3], dtype=np.uint64))[0][0], train[0][0])


def test_few_shot(make_tree):
    splits = folder(make_tree(FULL), per_class=2)
    assert np.bincount(splits.train.labels).tolist() == [2, 2]
    assert len(splits.val) == 3 and len(splits.test) == 4
    with pytest.raises(DataError, match=r"per_class=5 .* class 'dog' has: 4"):
        folder(splits.train.paths[0].split("/train/")[0], per_class=5)


def test_no_root():
    with pytest.raises(OptionError, match=r"data\.root of folder.*None; allowed: .*folder"):
        create_dataset("folder")


def test_root_that_does_not_exist(make_tree):
    root = make_tree(FULL)
    wrong = root.parent / "imagse" / "birds"
    message = rf"{re.escape(str(wrong))} .*{re.escape(str(root.parent))} .*'imagse'.*Did you mean 'images'\?"
    with pytest.raises(DataError, match=message):
        folder(wrong)


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "x.zip").touch()
    for root in (tmp_path / "x.zip", str(tmp_path / "x.zip" / "images")):
        with pytest.raises(DataError, match=r"x\.zip, .*data\.root.* unpack "):
            folder(root)
    with pytest.raises(OptionError, match=r"data\.root must be the path of a folder; got 5"):
        folder(5)


def test_folder_that_cannot_be_listed(make_tree, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot read the folder .*images: Permission denied"):
        folder(make_tree(FULL))


def test_classes_without_splits(make_tree):
    root = make_tree({"all": {"cat": 1, "dog": 1}}) / "all"
    with pytest.raises(DataError, match=r"'cat', 'dog'.*'train'"):
        folder(root)


def test_no_train_folder(make_tree, tmp_path):
    root = make_tree({"Train": {"cat": 1}, "test": {"cat": 1}})
    with pytest.raises(DataError, match=r"no folder 'train'.*'Train', 'test'.*Did you mean 'Train'"):
        folder(root)
    with pytest.raises(DataError, match=rf"no folder 'train'.* Set data\.root={re.escape(str(tmp_path))}/two\."):
        make_tree(FULL, root="two")
        folder(tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"cat": 2}, r"CLASS/\*\.jpg of two classes or more.* it holds 'cat'"),
        ({"": 3}, r"CLASS/\*\.jpg of two classes or more.* it holds .*no folder.* and 3 images in no class folder"),
        ({"pets/cat": 2, "pets/dog": 2}, r" Set data\.root=\S*pets\."),
    ],
)
def test_classes_that_are_not_found(files, words, tmp_path):
    for place, count in files.items():
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (tmp_path / place / f"{number}.jpg").touch()
    with pytest.raises(DataError, match=words):
        folder(tmp_path)


def test_a_split_by_another_name(make_tree):
    root = make_tree(without("test"))
    (root / "val").rename(root / "validation")
    with pytest.raises(DataError, match=r"Rename 'validation' to 'val'"):
        folder(root)


def test_train_alone(make_tree):
    with pytest.raises(DataError, match=r"no folder 'test' .*'val'"):
        folder(make_tree(without("val", "test")))


def test_empty_class(make_tree):
    root = make_tree(FULL)
    (root / "train" / "ant").mkdir()
    (root / "train" / "ant" / "readme.txt").touch()
    with pytest.raises(DataError, match=r"'ant' .*train\..*\.jpg"):
        folder(root)


def test_classes_a_level_too_deep(make_tree):
    root = make_tree({"train/images": {"cat": 3, "dog": 3}, "test/images": {"cat": 1, "dog": 1}})
    with pytest.raises(DataError, match=r"a single class, 'images': nothing to tell apart"):
        folder(root)


@pytest.mark.parametrize("below", ["train", "val"])
def test_root_that_is_a_split(make_tree, below):
    root = make_tree(FULL)
    with pytest.raises(DataError, match=rf"no folder 'train'\. .* Set data\.root={root}\.$"):
        folder(root / below)


def test_flat_split(make_tree):
    root = make_tree(without("val", "test"))
    (root / "val").mkdir()
    Image.new("RGB", (9, 9)).save(root / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(DataError, match=r"holds 1 image .*no class folder"):
        folder(root)


def test_classes_that_differ(make_tree):
    both = {"cat": 1, "dog": 1}
    root = make_tree({"train": both, "val": {**both, "yak": 1}, "test": {"cat": 1}})
    with pytest.raises(DataError, match=r"val .*'yak'.*train .*test .*'dog'"):
        folder(root)


def test_nothing_to_hold_out(make_tree):
    with pytest.raises(DataError, match=r"no validation image .*\b2 classes"):
        folder(make_tree({"train": {"cat": 1, "dog": 1}, "test": {"cat": 1, "dog": 1}}))


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 cut off"])
def test_unreadable_image(make_tree, content):
    root = make_tree(FULL)
    splits = folder(root)
    (root / "test" / "cat" / "001.jpg").write_bytes(content)
    assert splits.test[0][0].shape == (3, 16, 16)
    with pytest.raises(DataError, match=r"test/cat/001\.jpg: (UnidentifiedImage|OS)Error: "):
        splits.test[1]


def test_truncated_image(make_tree):
    root = make_tree(FULL)
    splits = folder(root)
    path = root / "test" / "cat" / "001.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"001\.jpg: OSError: .*truncated"):
        splits.test[1]


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_through_a_loader_is_one_clear_message(make_tree, workers):
    root = make_tree(FULL)
    loader = Loader(folder(root).test, 2, train=False, workers=workers)
    (root / "test" / "cat" / "001.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"^cannot read the image [^\n]*001\.jpg[^\n]*$"):
        list(loader.epoch(0))


def test_floats_are_refused(make_tree):
    root = make_tree(FULL)
    Image.fromarray(np.full((20, 20), 0.5, dtype=np.float32)).save(root / "test" / "cat" / "000.tif")
    with pytest.raises(DataError, match=r"000\.tif .*'F'.*allowed .*8 bits"):
        folder(root)


@pytest.mark.parametrize(("exif", "turned"), [(None, True), (False, False), (True, True)])
def test_images_are_turned_as_a_phone_says(make_tree, exif, turned):
    root, tag = make_tree(FULL), Image.Exif()
    tag[0x0112] = 6
    picture = Image.fromarray(np.zeros((20, 20, 3), dtype=np.uint8))
    picture.paste((255, 255, 255), (0, 0, 20, 10))  # white above; turned by a quarter it is on the right
    picture.save(root / "test" / "cat" / "000.png", exif=tag)
    test = create_dataset("folder", root, image_size=20, exif=exif, transform="resize").test
    place = [path.endswith("000.png") for path in test.paths].index(True)
    pixels = test[place][0][0]
    assert bool(pixels[:, 19].min() == 255) is turned


def test_links_that_lead_back_are_not_followed(make_tree):
    root = make_tree(FULL)
    before = names(folder(root).train)
    (root / "train" / "cat" / "again").symlink_to(root / "train")
    (root / "train" / "cat" / "self").symlink_to(root / "train" / "cat")
    assert names(folder(root).train) == before


def test_fingerprint_follows_the_files_and_not_the_place(make_tree):
    first, second = make_tree(FULL, root="a"), make_tree(FULL, root="b")
    assert folder(first).fingerprint() == folder(second).fingerprint()
    (second / "test" / "cat" / "001.jpg").unlink()
    changed = folder(second).fingerprint()
    assert changed["train"] == folder(first).fingerprint()["train"]
    assert changed["test"] != folder(first).fingerprint()["test"]


def test_runs_in_the_folder_of_the_classes_are_no_class(make_tree, tmp_path):
    """A training in the folder itself makes them there, and draws its curves into an image."""
    root = (make_tree(FULL) / "train").rename(tmp_path / "photos")
    before = folder(root)
    run = root / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    Image.new("L", (8, 8)).save(run / "curves.png")
    after = folder(root)
    assert after.classes == ("cat", "dog") and after.rule.endswith("Not used: runs in 'runs'.")
    assert list(after.train.paths) == list(before.train.paths)
