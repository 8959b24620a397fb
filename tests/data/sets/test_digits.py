import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from gcp.data import create_dataset
from gcp.data.sets.digits import LEVELS
from gcp.errors import DataError, OptionError


@pytest.fixture(scope="module")
def splits():
    return create_dataset("digits", image_size=8, in_chans=1)


def pixels(images):
    return images * LEVELS


def test_test_split_is_every_fifth_image(splits):
    bunch = load_digits()
    images, labels = splits.test.read(np.arange(len(splits.test)))
    assert torch.equal(pixels(images).round(), torch.from_numpy(bunch.images[::5]).float().unsqueeze(1))
    assert np.array_equal(labels.numpy(), bunch.target[::5])
    assert np.array_equal(splits.test.labels, bunch.target[::5])


def test_the_splits_are_disjoint_and_complete(splits):
    parts = splits.train, splits.val, splits.test
    images = [part.read(np.arange(len(part)))[0].flatten(1) for part in parts]
    assert [len(part) for part in images] == [1294, 143, 360]
    # No two of the 1,797 images are equal, so every one is in exactly one split.
    assert len(torch.cat(images).mul(100).round().unique(dim=0)) == 1797


def test_validation_is_stratified(splits):
    pool = np.bincount(np.concatenate([splits.train.labels, splits.val.labels]))
    assert abs(np.bincount(splits.val.labels) - 0.1 * pool).max() <= 0.5


def test_validation_follows_the_split_seed(splits):
    other = create_dataset("digits", image_size=8, in_chans=1, split_seed=1)
    assert not np.array_equal(splits.val.read(range(143))[0], other.val.read(range(143))[0])
    assert torch.equal(splits.test.read(range(360))[0], other.test.read(range(360))[0])


def test_names_and_rule(splits):
    assert splits.classes == tuple("0123456789")
    held = r"validation: 143 of the 1,437 .*class by class.* 0\.1\b.*seed 0\b"
    assert re.match(rf"test: .*fifth .*\b360\b.*{held}.*training: 1,294\b", splits.rule)
    assert splits.train.in_memory and splits.train.paths is None
    assert not splits.train.labels.flags.writeable


def test_images_are_normalised(splits):
    images = torch.cat([part.read(np.arange(len(part)))[0] for part in (splits.train, splits.val)])
    assert images.dtype == torch.float32 and images.min() == 0 and images.max() == 1
    normalised = splits.train.normalize(images)
    assert abs(normalised.mean()) < 1e-3 and abs(normalised.std() - 1) < 1e-3


def test_upsampling_is_bilinear_and_channels_are_repeated(splits):
    large, label = create_dataset("digits", image_size=32).test[3]
    assert large.shape == (3, 32, 32) and label == splits.test.labels[3]
    assert torch.equal(large[0], large[1]) and torch.equal(large[0], large[2])
    expected = F.interpolate(splits.test[3][0][None], size=32, mode="bilinear", align_corners=False)[0, 0]
    # The outermost half pixel of the source, two of the target, fades into black.
    torch.testing.assert_close(large[0, 2:-2, 2:-2], expected[2:-2, 2:-2], rtol=0, atol=1e-5)


def test_augmentation_moves_but_does_not_mirror():
    train = create_dataset("digits", image_size=32, in_chans=1).train
    index = np.full(64, 7)
    moved = train.read(index, np.arange(64, dtype=np.uint64))[0].flatten(1)
    plain = train[7][0].flatten()
    assert len(moved.unique(dim=0)) == 64
    mirrored = train[7][0].flip(-1).flatten()
    assert bool(((moved - plain).norm(dim=1) < (moved - mirrored).norm(dim=1)).all())


def test_augmentation_follows_the_seed_of_the_sample():
    train = create_dataset("digits").train
    seeds = np.array([5, 6, 7], dtype=np.uint64)
    batch = train.read([1, 2, 3], seeds)[0]
    assert torch.equal(batch[1:2], train.read([2], seeds[1:2])[0])
    assert not torch.equal(batch[1:2], train.read([2], seeds[:1])[0])


def test_transform_none_ignores_the_seeds():
    train = create_dataset("digits", transform="none").train
    assert torch.equal(train.read([1, 2], np.array([5, 6], dtype=np.uint64))[0], train.read([1, 2])[0])


def test_few_shot_leaves_validation_and_test_untouched(splits):
    few = create_dataset("digits", image_size=8, in_chans=1, per_class=5)
    assert np.bincount(few.train.labels).tolist() == [5] * 10
    assert torch.equal(few.val.read(range(143))[0], splits.val.read(range(143))[0])
    assert len(few.test) == 360
    assert re.search(r"training: 50 .*\b5 .*class .*seed 0\b", few.rule)
    everything = {image.numpy().tobytes() for image in splits.train.read(range(1294))[0]}
    assert {image.numpy().tobytes() for image in few.train.read(range(50))[0]} <= everything


def test_too_many_shots():
    with pytest.raises(DataError, match=r"per_class=500 .* class '0' has: 122"):
        create_dataset("digits", per_class=500)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "/data"}, r"data\.root of digits.*'/data'.*allowed: null"),
        ({"image_size": 4}, r"data\.image_size of digits.* 4\b.*>= 8\b"),
        ({"image_size": 32.0}, r"image_size .*digits.* 32\.0\b.*>= 1\b"),
        ({"in_chans": 0}, r"in_chans .*digits.* 0\b.*>= 1\b"),
        ({"per_class": 0}, r"per_class .*digits.* 0\b.*>= 1\b"),
        ({"split_seed": -1}, r"split_seed .*digits.* -1\b.*>= 0\b"),
        ({"val_fraction": 1}, r"val_fraction .*digits.* 1\b.*>= 0 .*< 1\b"),
        ({"val_fraction": "much"}, "is 'much'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(OptionError, match=message):
        create_dataset("digits", **options)


def test_unknown_transform():
    with pytest.raises(
        OptionError, match=r"data\.transform of digits.*'defalt'.*allowed: .*default.*Did you mean 'default'"
    ):
        create_dataset("digits", transform="defalt")
