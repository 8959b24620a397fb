"""The faults that every one of these data sets can have, whatever it is annotated by."""

from pathlib import Path

import pytest

from gcp.data import DATASETS, create_dataset
from gcp.errors import DataError

NAMES = ("cars", "aircraft", "dogs", "flowers")


@pytest.mark.parametrize("name", NAMES)
def test_counts_other_than_the_published_ones(tree, name):
    source = DATASETS[name].obj
    with pytest.raises(DataError, match=rf"\b3 classes.*{source.classes:,}; .*data\.partial=true") as error:
        create_dataset(name, tree(name)["root"], image_size=16)
    for split, count in source.counts.items():
        assert f"published: {count:,}" in str(error.value) and f"{split} has" in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_missing_and_unreadable_images_in_one_message(tree, name):
    root = tree(name)["root"]
    found = DATASETS[name].obj.listing(root).splits
    lost, damaged = found["train"].paths[5], found["test"].paths[0]
    Path(damaged).write_bytes(b"no image")
    Path(lost).unlink()
    with pytest.raises(DataError) as error:
        create_dataset(name, root, image_size=16, partial=True)
    assert f"1 of 12 files of train missing, the first: {lost}" in str(error.value)
    assert f"cannot read the image {damaged}" in str(error.value)
    assert "2 faults" in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_unicode_spaces_and_links(tree, name, tmp_path):
    root = tree(name, folder="Bilder für später")["root"]
    (tmp_path / "link").symlink_to(root)
    assert create_dataset(name, tmp_path / "link", image_size=16, partial=True).test[0][0].shape == (3, 16, 16)
