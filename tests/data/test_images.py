import os
import pickle

import numpy as np
import pytest

from gcp.data.images import FileSet, Paths

NAMES = ["/a/ä 鸟.jpg", "/b", "", os.fsdecode(b"/c/\xff.png"), "/a/ä 鸟.jpg"]


def test_paths_are_a_sequence_of_strings():
    paths = Paths(NAMES)
    assert list(paths) == NAMES == [paths[index] for index in range(len(paths))]
    assert paths[-1] == NAMES[-1] and list(paths[1:4:2]) == NAMES[1:4:2]
    assert list(paths.take(np.array([3, 0, 3]))) == [NAMES[3], NAMES[0], NAMES[3]]
    assert list(paths.take([3, 1]).take([1])) == [NAMES[1]]
    assert list(pickle.loads(pickle.dumps(paths))) == NAMES
    with pytest.raises(IndexError):
        paths[5]


def test_no_paths():
    assert len(Paths([])) == 0 and list(Paths([])) == []


def test_the_text_is_shared_by_subsets():
    paths = FileSet(NAMES, range(5), transform=None, in_chans=3).subset([4, 3]).subset([1]).paths
    assert list(paths) == [NAMES[3]]
    assert paths._text is paths.take([0])._text
