"""The picture of an evolution, from its two tables."""

import pytest
from PIL import Image

from gcp.callbacks.evolution.plot import course, draw

EDITS = """\
step,epoch,dimension,before,after,error,parameters_before,parameters,why
3,1,head.reduction,8,12,1e-07,1000,1400,"smallest singular value 0.2 of the largest, above 0.1"
3,1,features.conv1,16,11,0.01,1400,1100,5 of 16 singular values below 0.01 of the largest
6,2,head.reduction,12,16,1e-07,1100,1700,"smallest singular value 0.3 of the largest, above 0.1"
"""
EPOCHS = "epoch,step,val_accuracy,parameters\n1,4,50.0,1100\n2,8,,1700\n3,12,80.0,1700\n"


@pytest.fixture
def tables(tmp_path):
    (tmp_path / "evolution.csv").write_text(EDITS)
    (tmp_path / "metrics.csv").write_text(EPOCHS)
    return tmp_path / "evolution.csv", tmp_path / "metrics.csv", tmp_path / "evolution.png"


def test_picture(tables):
    draw(*tables)
    with Image.open(tables[2]) as image:
        assert image.size == (1500, 500) and len(set(image.convert("L").tobytes())) > 50
    assert [path.name for path in tables[2].parent.iterdir() if path.name.endswith(".tmp")] == []


def test_course():
    edits = [{"step": "3", "before": "8", "after": "12"}, {"step": "6", "before": "12", "after": "16"}]
    assert course(edits, "before", "after", 12) == ([0, 3, 6, 12], [8, 12, 16, 16])


def test_course_of_several_edits_in_one_step():
    edits = [{"step": "3", "before": "8", "after": "12"}, {"step": "3", "before": "12", "after": "10"}]
    assert course(edits, "before", "after", 9) == ([0, 3, 9], [8, 10, 10])


def test_many_widths(tables):
    row = "3,1,features.layer{0},16,{1},0,1000,1000,why\n"
    tables[0].write_text(EDITS + "".join(row.format(number, 17 + number) for number in range(30)))
    draw(*tables)
    assert tables[2].is_file()


@pytest.mark.parametrize("missing", [0, 1])
def test_without_a_table(missing, tables):
    """Without an edit there is nothing to draw; without an epoch there are the widths."""
    tables[missing].unlink()
    draw(*tables)
    assert tables[2].is_file() == (missing == 1)
