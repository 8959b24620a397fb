"""curves.png: a picture that opens, whatever the table holds."""

import numpy as np
import pytest
from PIL import Image

from gcp.drawing.curves import best_row, draw_curves
from gcp.engine.metrics import write_metrics
from gcp.engine.state import Progress


def row(epoch, **more):
    values = {"epoch": epoch, "step": 3 * epoch, "lr_features": 0.1 / epoch, "lr_head": 0.1 / epoch}
    values |= {"train_loss": 2.0 / epoch, "train_accuracy": 50.0 + epoch, "val_loss": 1.0, "val_accuracy": 60.0}
    return {**values, **more}


HISTORIES = {
    "one epoch": [row(1)],
    "many epochs": [row(epoch) for epoch in range(1, 41)],
    "no validation": [row(1, val_loss=None, val_accuracy=None)],
    "validation now and then": [row(1), row(2, val_loss=None, val_accuracy=None), row(3)],
    "a rate of zero": [row(1), row(2, lr_features=0.0)],
    "a part that joined on resuming": [row(1), row(2, lr_classifier=0.3)],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_picture(history, tmp_path):
    write_metrics(tmp_path / "metrics.csv", history)
    draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (1500, 450))
        ink = (np.asarray(image.convert("L")) < 200).reshape(450, 3, 500).sum((0, 2))
    assert (ink > 500).all()  # something is drawn in each of the three panels
    assert {file.name for file in tmp_path.iterdir()} == {"metrics.csv", "curves.png"}


def test_a_table_without_rows_draws_nothing(tmp_path):
    write_metrics(tmp_path / "metrics.csv", [])
    draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_lines_follow_the_table(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (drawn.append(self), path.touch()))
    write_metrics(tmp_path / "metrics.csv", [row(1), row(2, val_loss=None, val_accuracy=None), row(3)])
    draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    loss, accuracy, rate = drawn[0].axes
    curves = {line.get_label(): line.get_xydata().tolist() for line in loss.get_lines()}
    assert curves["training"] == [[1, 2.0], [2, 1.0], [3, 2 / 3]] and curves["validation"] == [[1, 1.0], [3, 1.0]]
    assert "epoch 1, 60 %" in accuracy.get_title()
    assert [text.get_text() for text in rate.get_legend().get_texts()] == ["features, head"]  # one rate, one curve


def test_the_marked_epoch_is_that_of_best_pt():
    """Of equal accuracies the lower loss, of equal losses the first, as `Progress.improve` chooses."""
    rows = [row(1, val_accuracy=70.0, val_loss=0.9), row(2, val_accuracy=70.0, val_loss=0.8), row(3, val_loss=0.1)]
    rows.append(row(4, val_accuracy=70.0, val_loss=0.8))
    progress = Progress()
    for each in rows:
        progress.epoch = each["epoch"] - 1
        progress.improve({"top1": each["val_accuracy"], "loss": each["val_loss"]})
    assert best_row(rows)["epoch"] == progress.best["epoch"] == 2
    assert best_row([row(1, val_loss=None, val_accuracy=None)]) is None
