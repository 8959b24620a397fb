"""The scores of each class, as rows of a table."""

from collections.abc import Sequence

import numpy as np


def class_rows(matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, object]]:
    """One row for each class of a confusion matrix; shares in percent, None where nothing defines them.

    `accuracy` is the share of the class's images that are right (its recall), `precision` the share of the images
    predicted as the class that are of it; `most_taken_for` is the wrong class it was predicted as most often.
    """
    seen, predicted, right = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    wrong = matrix - np.diag(right)
    rows: list[dict[str, object]] = []
    for index, name in enumerate(names):
        other = int(wrong[index].argmax())
        taken = int(wrong[index, other])
        rows.append(
            {
                "class": index,
                "name": name,
                "images": int(seen[index]),
                "right": int(right[index]),
                "accuracy": _percent(right[index], seen[index]),
                "predicted": int(predicted[index]),
                "precision": _percent(right[index], predicted[index]),
                "f1": _percent(2 * right[index], seen[index] + predicted[index]),
                "most_taken_for": names[other] if taken else None,
                "times": taken,
            }
        )
    return rows


def _percent(part: int, whole: int) -> float | None:
    return 100 * int(part) / int(whole) if whole else None
