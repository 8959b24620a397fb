import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from gcp.evaluation.confusion import class_rows


def test_against_scikit_learn():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 5, (2, 300))
    names = [f"class {number}" for number in range(5)]
    rows = class_rows(confusion_matrix(labels, predicted), names)
    precision, recall, f1, seen = precision_recall_fscore_support(labels, predicted)
    assert [row["accuracy"] for row in rows] == pytest.approx(100 * recall)
    assert [row["precision"] for row in rows] == pytest.approx(100 * precision)
    assert [row["f1"] for row in rows] == pytest.approx(100 * f1)
    assert [row["images"] for row in rows] == list(seen)
    assert [row["name"] for row in rows] == names


def test_what_nothing_defines_is_left_open():
    rows = class_rows(np.array([[2, 1, 0], [0, 0, 0], [0, 0, 0]]), ["a", "b", "c"])
    assert rows[0]["most_taken_for"] == "b" and rows[0]["times"] == 1
    assert rows[1]["accuracy"] is None and rows[1]["precision"] == 0 and rows[1]["most_taken_for"] is None
    assert rows[2] == {"class": 2, "name": "c", "images": 0, "right": 0, "accuracy": None, "predicted": 0,
                       "precision": None, "f1": None, "most_taken_for": None, "times": 0}  # fmt: skip
