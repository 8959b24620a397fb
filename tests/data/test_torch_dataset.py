"""Splits out of PyTorch data sets: what they hold, and one clear error for every other item."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, IterableDataset, Subset, TensorDataset

from gcp.data import create_loader, from_torch
from gcp.data.normalize import Normalize
from gcp.data.torch_dataset import to_pixels
from gcp.data.transforms import PerImage
from gcp.errors import DataError, OptionError

PIXELS = torch.arange(60 * 3 * 8 * 8).remainder(251).to(torch.uint8).view(60, 3, 8, 8)
LABELS = torch.arange(60) % 3


class Items:
    """A data set of `image(index)` and `label(index)`, without a list of its labels."""

    def __init__(self, image=PIXELS.__getitem__, label=lambda index: index % 3, count=60):
        self.image, self.label, self.count = image, label, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.image(index), self.label(index)


class Endless(IterableDataset):
    """Has an order and no places."""

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 3


def of(dataset=None, **options):
    return from_torch(Items() if dataset is None else dataset, **{"transform": "resize", "image_size": 8, **options})


def indices(images):
    """Which of PIXELS a split has."""
    return [int((image == PIXELS).flatten(1).all(1).nonzero()) for image, _ in (images[i] for i in range(len(images)))]


def test_every_image_is_in_one_split():
    splits = of(classes=["a", "b", "c"])
    every = [indices(images) for images in (splits.train, splits.val, splits.test)]
    assert [len(each) for each in every] == [42, 6, 12]
    assert sorted(place for each in every for place in each) == list(range(60))
    for images, places in zip((splits.train, splits.val, splits.test), every, strict=True):
        assert images.labels.tolist() == [place % 3 for place in places]
    assert splits.classes == ("a", "b", "c")
    assert re.search(r"class by class.* 0\.1\b.*seed 0\b", splits.rule) and "0.2 of the 60 images" in splits.rule


def test_the_seed_chooses_validation_and_never_the_test_split():
    one, two = of(), of(split_seed=1)
    assert indices(one.test) == indices(two.test) and indices(one.val) != indices(two.val)
    assert indices(of(split_seed=1).val) == indices(two.val)


def test_the_roles_of_given_splits():
    a, b, c = (Subset(Items(), range(start, start + 20)) for start in (0, 20, 40))
    splits = of(a, val=b, test=c)
    assert [indices(each) for each in (splits.train, splits.val, splits.test)] == [
        list(range(start, start + 20)) for start in (0, 20, 40)
    ]
    alone = of(a, val=b)
    assert indices(alone.test) == list(range(20, 40)) and set(indices(alone.val)) < set(range(20))
    assert len(of(a, test=b, val_fraction=0).val) == 0
    assert len(of(a, test=b, per_class=2).train) == 6


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(PIXELS, LABELS),
        Subset(TensorDataset(PIXELS, LABELS), range(60)),
        ConcatDataset([TensorDataset(PIXELS[:20], LABELS[:20]), Subset(Items(), range(20, 60))]),
        [(image, int(label)) for image, label in zip(PIXELS, LABELS, strict=True)],
        Items(lambda index: PIXELS[index].permute(1, 2, 0).numpy(), np.int64),
        Items(lambda index: Image.fromarray(PIXELS[index].permute(1, 2, 0).numpy())),
    ],
    ids=["tensors", "subset", "joined", "list", "arrays", "Pillow"],
)  # fmt: skip
def test_kinds_of_data_sets(dataset):
    if isinstance(dataset, Items) and dataset.label is np.int64:
        dataset.label = lambda index: np.int64(index % 3)
    assert of(dataset).fingerprint() == of().fingerprint()


def test_labels_are_not_read_where_the_data_set_keeps_them():
    read = []
    dataset = Items(lambda index: read.append(index) or PIXELS[index])
    dataset.targets = LABELS.tolist()
    of(dataset)
    assert len(read) < 12
    dataset.target_transform = lambda label: label  # which `targets` does not know
    of(dataset)
    assert len(read) > 60


def test_names_of_classes():
    dataset = Items()
    assert of(dataset).classes == ("0", "1", "2")
    dataset.classes = ["x", "y", "z"]
    assert of(Subset(dataset, range(60))).classes == ("x", "y", "z")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_a_function_of_seed_and_epoch(workers, random_state):
    first = create_loader(of(transform="modern").train, 8, train=True, seed=3, workers=0)
    loader = create_loader(of(transform="modern").train, 8, train=True, seed=3, workers=workers)
    wanted, before = list(first.epoch(2)), random_state()
    torch.manual_seed(workers + 17)
    found = [*loader.epoch(2)][:2] + list(loader.epoch(2, 2))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(wanted, found, strict=True))
    torch.manual_seed(0)
    assert before is not None


def test_reading_leaves_the_random_state(random_state):
    dataset = Items(lambda index: torch.rand(1) is not None and PIXELS[index])
    before = random_state()
    images = of(dataset).train
    images.read(range(4), np.arange(4, dtype=np.uint64))
    images.fingerprint()
    assert random_state() == before


def test_the_fingerprint_tells_other_images_and_other_labels():
    other = of(Items(lambda index: PIXELS[index] // 2)).fingerprint()
    assert all(other[name] != value for name, value in of().fingerprint().items())
    assert of(Items(label=lambda index: (index + 1) % 3)).fingerprint()["train"] != of().fingerprint()["train"]


def test_channels_are_converted():
    grey = of(Items(lambda index: PIXELS[index, 0]))
    assert grey.train[0][0].shape == (3, 8, 8) and grey.train[0][0].unique(dim=0).shape[0] == 1
    assert of(in_chans=1).train[0][0].shape == (1, 8, 8)
    clear = to_pixels(np.dstack([PIXELS[0].permute(1, 2, 0).numpy(), np.full((8, 8), 9, np.uint8)]), "it", 3)
    assert torch.equal(clear, PIXELS[0])


def test_a_transform_of_ones_own():
    recipe = PerImage(lambda image: image.flip(2), lambda image: image, Normalize((0.5,) * 3, (1.0,) * 3))
    images = of(transform=recipe).train
    seeds = np.zeros(1, dtype=np.uint64)
    assert torch.equal(images.read([0], seeds)[0][0], images[0][0].flip(2)) and images.normalize.std == (1.0,) * 3


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Items(lambda index: PIXELS[index].float()), r"torch\.float32.*\(3, 8, 8\)"),
        (Items(lambda index: PIXELS[index].numpy()), r"image 0 of train .*uint8.*\(3, 8, 8\)"),
        (Items(lambda index: "cat.png"), r"image 0 of train .*str; allowed: .*Pillow"),
        (Items(lambda index: Image.new("I", (8, 8))), "mode 'I'; allowed are 8 bits"),
        (Items(label=lambda index: "cat"), "label of image 0 of train is 'cat'"),
        (Items(label=lambda index: True), "label of image 0 of train is True"),
        (Items(label=lambda index: 0.5), "label of image 0 of train is 0.5"),
        (Items(label=lambda index: -1), "has no split to train on"),
        (Items(label=lambda index: index % 3 - 1), "labels that are no class: the first is -1"),
        ([1, 2], r"item 0 of train .*int; allowed: a pair"),
        (Items(lambda index: 1 / 0), "cannot read image 0 of train: ZeroDivisionError"),
        (Items(lambda index: torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)), "another one each time.*PerImage"),
        (Endless(), r"train .*Endless; allowed: .*map-style"),
        (Items(count=0), "nothing to score"),
    ],
)  # fmt: skip
def test_every_other_item_is_refused(dataset, message):
    with pytest.raises(DataError, match=message):
        of(dataset)


def test_a_label_that_changes_is_refused():
    dataset = Items()
    dataset.targets = LABELS.tolist()
    images = of(dataset).train
    dataset.label = lambda index: (index + 1) % 3
    with pytest.raises(DataError, match=r"the label of image .* of train is .*, but was"):
        images.read([1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "rezise"}, "rezise"),
        ({"transform": len}, r"allowed: .*gcp\.data\.transforms.* Transform"),
        ({"val_fraction": 1}, "val_fraction must be"),
        ({"test_fraction": -0.1}, "test_fraction must be"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        of(**options)
    assert issubclass(OptionError, ValueError)


def test_too_few_class_names():
    with pytest.raises(DataError, match="labels that are no class: the first is 2"):
        of(classes=["a", "b"])
