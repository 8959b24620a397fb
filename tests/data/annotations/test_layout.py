"""What is said of a folder that is not there."""

import pytest

from gcp.data.annotations.layout import existing_folder
from gcp.errors import DataError


def test_only_a_folder_that_is_alike_is_suggested(tmp_path):
    (tmp_path / "opt").mkdir()
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError) as caught:
        existing_folder(tmp_path / "nope")
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(DataError, match="Did you mean 'images'"):
        existing_folder(tmp_path / "imags")


def test_folders_of_runs_are_not_offered(tmp_path):
    for folder in ("runs/mine", "mine", "photos"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "config.yaml").touch()
    (tmp_path / "mine" / "config.yaml").touch()
    with pytest.raises(DataError, match=r"holds no 'rins', but 'photos'\.$"):
        existing_folder(tmp_path / "rins")
