import re

import pytest
import torch
import torchvision.datasets

from gcp.data import create_dataset
from gcp.errors import DataError, OptionError

NAMES = ("cifar10", "cifar100")


@pytest.fixture
def cifar(tree, monkeypatch):
    """Small files whose sums torchvision takes for the published ones."""

    def make(name, **options):
        made = tree("cifar", name, **options)
        for key in ("train_list", "test_list", "meta"):
            monkeypatch.setattr(getattr(torchvision.datasets, name.upper()), key, made[key])
        return made

    return make


def create(name, root, **options):
    return create_dataset(name, root, **options)


def pixels(images):
    """The bytes of each image as stored."""
    return [image.numpy().tobytes() for image in images.read(range(len(images)))[0]]


@pytest.mark.parametrize("name", NAMES)
def test_images_classes_and_counts(cifar, name):
    made = cifar(name)
    splits = create(name, made["root"])
    assert splits.classes == ("thing 0", "thing 1", "thing 2")
    assert [len(splits.train), len(splits.val), len(splits.test)] == [9, 3, 6]
    images, labels = splits.test.read(range(6))
    assert images.dtype == torch.uint8 and images.numpy().tobytes() == made["images"]["test"].tobytes()
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert splits.train.in_memory and splits.train.paths is None
    parts = r"Test: .*\b6\b.*validation: 3 of the 12 .*class by class.* 0\.1\b.*seed 0\b.*training: 9\b"
    assert re.match(rf"{name.upper()} .*{parts}", splits.rule)


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_disjoint_and_labels_stay_with_their_images(cifar, name):
    made = cifar(name)
    splits = create(name, made["root"])
    train, val, test = pixels(splits.train), pixels(splits.val), pixels(splits.test)
    assert len({*train, *val, *test}) == 18
    stored = [image.tobytes() for image in made["images"]["train"]]
    assert sorted(train + val) == sorted(stored)
    assert splits.val.labels.tolist() == [stored.index(image) % 3 for image in val]


@pytest.mark.parametrize("where", [".", "..", "cifar-10-batches-py"])
def test_root_is_the_folder_or_one_beside(cifar, where):
    made = cifar("cifar10")
    assert len(create("cifar10", made["root"] / where).test) == 6


@pytest.mark.parametrize("file", ["data_batch_2", "test_batch", "batches.meta"])
def test_files_that_are_not_the_published_ones(cifar, file):
    made = cifar("cifar10")
    path = made["root"] / "cifar-10-batches-py" / file
    command = rf'python -c "from torchvision.datasets import CIFAR10; CIFAR10\(\'{made["root"]}\', download=True\)"'
    message = rf"cifar-10-batches-py .*{command}"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DataError, match=message):
        create("cifar10", made["root"])
    path.unlink()
    with pytest.raises(DataError, match=message):
        create("cifar10", made["root"])


def test_another_folder(cifar, tmp_path):
    made = cifar("cifar10")
    message = r"CIFAR100 .*tree.*'cifar-100-python' .*'cifar-10-batches-py'"
    with pytest.raises(DataError, match=message):
        create("cifar100", made["root"])
    with pytest.raises(DataError, match=r"'tere'.* Did you mean 'tree'\?"):
        create("cifar10", tmp_path / "tere")


def test_grey_is_refused(cifar):
    with pytest.raises(OptionError, match=r"data\.in_chans of cifar10: got 1; allowed: 3"):
        create("cifar10", cifar("cifar10")["root"], in_chans=1)
