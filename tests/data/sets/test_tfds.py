"""The reader of timm replaced by one in memory: TensorFlow is not installed for the tests."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from gcp.data import create_dataset, create_loader
from gcp.errors import DataError, OptionError

SPLITS = {"train": [3, 4], "test": [2, 1, 2]}


class Reader:
    """A split, or `train[1shard:2shard]`, of numbered grey images."""

    dist_num_replicas = 2
    target_key = "label"

    def __init__(self, name, root, split, target_key, input_img_mode):
        assert (name, root, target_key, input_img_mode) == ("tfds/set", "/data", "kind", "RGB")
        self.class_to_idx = {"cat": 0, "dog": 1}
        self.split = split
        infos = {name: SimpleNamespace(shard_lengths=lengths) for name, lengths in SPLITS.items()}
        self.builder = SimpleNamespace(info=SimpleNamespace(splits=infos))

    def __iter__(self):
        name, _, part = self.split.partition("[")
        number = int(part.partition("shard")[0])
        assert part == f"{number}shard:{number + 1}shard]" and self.dist_num_replicas == 1
        first = sum(SPLITS[name][:number])
        for index in range(first, first + SPLITS[name][number]):
            yield Image.fromarray(np.full((8, 8, 3), index, np.uint8)), np.int64(index % 2)


@pytest.fixture
def create(monkeypatch):
    monkeypatch.setattr("gcp.data.source.find_spec", lambda name: True)
    monkeypatch.setattr("timm.data.readers.create_reader", Reader)
    return lambda **options: create_dataset("tfds/set#kind", "/data", image_size=8, transform="square", **options)


def test_shards_of_every_split_are_read_once(create):
    splits = create()
    assert splits.classes == ("cat", "dog")
    assert (len(splits.train), len(splits.val), len(splits.test)) in ((3, 4, 5), (4, 3, 5))
    for workers in (0, 3):
        loader = create_loader(splits.test, 2, train=False, workers=workers)
        assert loader.workers == min(workers, 1)
        batches = list(loader.epoch(0))
        values = [
            (int(image[0, 0, 0]), int(label))
            for images, labels in batches
            for image, label in zip(images, labels, strict=True)
        ]
        assert sorted(values) == [(n, n % 2) for n in range(5)]


def test_refused(create, monkeypatch):
    with pytest.raises(OptionError, match=r"data\.per_class of tfds/set#kind.* 1\b.*allowed: null"):
        create(per_class=1)
    monkeypatch.setattr("gcp.data.source.find_spec", lambda name: None if name == "tensorflow_datasets" else True)
    with pytest.raises(DataError, match=r"tensorflow-datasets.* pip install tens"):
        create()


def test_a_set_that_cannot_be_opened(create, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("not prepared")

    monkeypatch.setattr("timm.data.readers.create_reader", refuse)
    with pytest.raises(DataError, match=r"'tfds/set#kind': RuntimeError: not prepared"):
        create()
