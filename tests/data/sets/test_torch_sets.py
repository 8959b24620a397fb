"""torchvision's data sets, from files written here in their format."""

import struct

import numpy as np
import pytest
import torch
from trees.pictures import picture

from gcp.data import create_dataset
from gcp.errors import DataError, UnknownNameError


def write_mnist(root, count=40):
    """IDX files (LeCun): a magic number, the sizes, the bytes."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 28, 28) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + labels.tobytes())
    return images


def test_mnist(tmp_path):
    images = write_mnist(tmp_path)
    splits = create_dataset("torch/mnist", tmp_path, image_size=28, in_chans=1, transform="square")
    assert len(splits.classes) == 10 and splits.classes[3] == "3 - three"
    assert (len(splits.train), len(splits.val), len(splits.test)) == (30, 10, 40)
    assert splits.test[7][0][0].equal(torch.from_numpy(images[7])) and splits.test[7][1] == 7
    index = int(splits.train.indices[5])
    assert splits.train[5][0][0].equal(torch.from_numpy(images[index]))
    assert create_dataset("torch/mnist", tmp_path, image_size=28, per_class=1).train[0][0].shape == (3, 28, 28)


def test_inaturalist(tmp_path):
    """Labels beside the names of the files; two splits, of which the second is the test split."""
    for year, count in (("2021_train", 4), ("2021_valid", 1)):
        for label, name in enumerate(("Animalia_A_b", "Animalia_A_c")):
            for number in range(count):
                picture(tmp_path / year / f"{label:05d}_{name}_x_y_z_w" / f"{number}.jpg")
    splits = create_dataset("torch/inaturalist", tmp_path, image_size=16)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (6, 2, 2)
    assert splits.test.labels.tolist() == [0, 1] and "'validation' (2)" in splits.rule
    next((tmp_path / "2021_valid").rglob("0.jpg")).unlink()
    with pytest.raises(DataError, match=r"image . in validation of torch/inaturalist"):
        splits.test.read([0, 1])


def test_names(tmp_path):
    with pytest.raises(UnknownNameError, match=r"'mnits'.*Did you mean 'mnist'\?.*kmnist"):
        create_dataset("torch/mnits", tmp_path)
    with pytest.raises(DataError, match=r"(?s)'train' of 'torch/kmnist' .*Dataset not found.* -c .*True\)"):
        create_dataset("torch/kmnist", tmp_path)
