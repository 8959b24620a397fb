"""Oxford Flowers; torchvision's own reader is the oracle."""

import re

import numpy as np
import pytest
from scipy.io import savemat
from torchvision.datasets import Flowers102
from trees import flowers as made

from gcp.data import DATASETS, create_dataset
from gcp.errors import DataError


def flowers(root):
    return create_dataset("flowers", root, image_size=16, partial=True)


@pytest.mark.parametrize("layout", made.LAYOUTS)
def test_layouts(tree, layout):
    built = tree("flowers", layout=layout)
    splits = flowers(built["root"])
    assert splits.classes == ("pink primrose", "hard-leaved pocket orchid", "canterbury bells")
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [
        built[n] for n in ("train", "val", "test")
    ]
    assert re.search("validation: 3 .*of its own", splits.rule)
    assert splits.test[0][0].shape == (3, 16, 16)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_as_torchvision_reads_it(tree, monkeypatch, split):
    root = tree("flowers", layout="parent")["root"]
    monkeypatch.setattr(Flowers102, "_check_integrity", lambda self: True)  # of the published bytes
    oracle, files = Flowers102(root, split=split), DATASETS["flowers"].obj.listing(root).splits[split]
    assert list(files.paths) == [str(path) for path in oracle._image_files]
    assert files.labels.tolist() == oracle._labels


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 2, 103]])
def test_labels_out_of_range(tree, labels):
    root = tree("flowers")["root"]
    savemat(root / "imagelabels.mat", {"labels": np.array([labels])})
    with pytest.raises(DataError, match=rf"labels .*\b{labels[0]} to {labels[2]}\b.* 1 to 102\b"):
        flowers(root)


def test_numbers_beyond_the_labels(tree):
    root = tree("flowers")["root"]
    savemat(root / "setid.mat", {"trnid": [[1, 2]], "valid": [[3]], "tstid": [[4, 99]]})
    with pytest.raises(DataError, match=r"test .*\b4 to 99\b.*imagelabels\.mat .*\b1 to 21\b"):
        flowers(root)


@pytest.mark.parametrize("file", ["imagelabels.mat", "setid.mat"])
def test_damaged_annotations(tree, file):
    root = tree("flowers")["root"]
    path = root / file
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(DataError, match=rf"^[^\n]*{file}: [^\n]*replace[^\n]*$"):
        flowers(root)
    path.unlink()
    with pytest.raises(DataError, match=rf"lacks '{file}'"):
        flowers(root)
