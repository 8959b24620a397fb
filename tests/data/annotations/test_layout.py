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
