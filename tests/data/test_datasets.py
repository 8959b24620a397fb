import subprocess
import sys

import pytest

from gcp.data import DATASETS, ImageSet, check_dataset, create_dataset, list_datasets
from gcp.errors import UnknownNameError


def test_list():
    assert {"digits", "folder"} <= set(list_datasets())
    assert list_datasets("digit?") == ["digits"]
    assert all(entry.summary for entry in list_datasets())


def test_unknown_name():
    with pytest.raises(UnknownNameError, match=r"'digit'.*Did you mean 'digits'\?.*folder"):
        create_dataset("digit")


def test_the_name_of_a_family_is_no_data_set(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown torchvision data set '\*'"):
        create_dataset("torch/*", tmp_path)


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_source_allows_its_own_size(name):
    source = DATASETS[name].obj
    check_dataset(name, "somewhere" if source.needs_root else None, image_size=source.image_size)


def test_images_follow_the_protocol(make_tree):
    tree = make_tree({"train": {"a": 3, "b": 3}, "test": {"a": 1, "b": 1}})
    for splits in (create_dataset("digits"), create_dataset("folder", tree, image_size=16)):
        for images in (splits.train, splits.val, splits.test):
            assert isinstance(images, ImageSet)
            assert len(images) == len(images.labels)
            part = images.subset([1, 0])
            assert part.labels.tolist() == images.labels[[1, 0]].tolist()
            assert part[0][0].equal(images[1][0]) and part[0][1] == images.labels[1]


def test_import_is_light_and_draws_nothing():
    code = """
import random, sys, numpy, torch
before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].copy()
import gcp.data
assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
assert (numpy.random.get_state()[1] == before[2]).all()
heavy = {"torchvision", "sklearn", "PIL", "timm", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
