import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix as oracle

from gcp.evaluation.confusion import Pair, confusion_matrix, draw_confusion, most_confused


@pytest.mark.parametrize("classes", [1, 2, 9])
def test_against_scikit_learn(classes):
    generator = np.random.default_rng(classes)
    labels, predicted = generator.integers(0, classes, (2, 200))
    ours = confusion_matrix(labels, predicted, classes + 1)
    assert (ours == oracle(labels, predicted, labels=list(range(classes + 1)))).all()
    assert ours.dtype == np.int64


def test_pairs_by_hand():
    matrix = np.array([[5, 3, 0, 0], [1, 9, 3, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    assert most_confused(matrix, 3) == [Pair(0, 1, 3, 3 / 8), Pair(1, 2, 3, 3 / 13), Pair(2, 1, 1, 1 / 2)]
    assert len(most_confused(matrix, 99)) == 4
    assert most_confused(np.diag([3, 4]), 5) == []


@pytest.mark.parametrize(("classes", "pixels"), [(1, 450), (2, 450), (25, 900), (26, 450), (200, 2400), (1000, 3000)])
def test_every_cell_is_whole_pixels(classes, pixels, tmp_path):
    """The colours of the cells, read back from the picture: three wrong images of four stand out at 1000 classes."""
    matrix = 4 * np.eye(classes, dtype=np.int64)
    if classes > 1:
        matrix[0] = 0
        matrix[0, -1] = 4
    names = [f"{number} übergröße $x_2$ {'long ' * 9}" for number in range(classes)]
    draw_confusion(matrix, names, tmp_path / "c.png")
    picture = np.asarray(Image.open(tmp_path / "c.png").convert("RGB")).astype(int)
    dark = (picture[..., 2] - picture[..., 0] > 60) & (picture[..., 0] < 60)
    columns = np.flatnonzero(dark[:, : int(picture.shape[1] - 120)].sum(0) >= 2)
    assert abs(columns[-1] - columns[0] + 1 - pixels * max(1, classes - 1) / classes) <= 3 + pixels / classes
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]
