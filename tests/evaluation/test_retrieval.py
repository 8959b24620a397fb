import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from gcp.errors import DataError
from gcp.evaluation import retrieval
from gcp.evaluation.retrieval import TEMPERATURE, retrieve


def task(count=90, classes=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    centres = torch.randn(classes, 16, generator=generator)
    return centres[labels] + 1.5 * torch.randn(count, 16, generator=generator), labels


def cosines(one, other):
    one, other = (torch.nn.functional.normalize(each.double()).numpy() for each in (one, other))
    return one @ other.T


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("cells", [1, 1000, 2**24])
def test_against_scikit_learn(own, cells, monkeypatch):
    """mAP and kNN by another implementation, whatever the chunk."""
    monkeypatch.setattr(retrieval, "CELLS", cells)
    queries, labels = task()
    gallery, theirs = (queries, labels) if own else task(60, seed=1)
    found = retrieve(queries, labels, *(() if own else (gallery, theirs)), neighbours=4)
    similarity = cosines(queries, gallery)
    rows = [np.delete(np.arange(len(gallery)), row) if own else np.arange(len(gallery)) for row in range(len(queries))]
    precision = [
        average_precision_score((theirs[keep] == labels[row]).numpy(), similarity[row, keep])
        for row, keep in enumerate(rows)
    ]
    assert found.mean_average_precision == pytest.approx(100 * np.mean(precision), abs=1e-4)
    for k, value in found.recall.items():
        first = [(theirs[keep[np.argsort(-similarity[row, keep])[:k]]] == labels[row]).any()
                 for row, keep in enumerate(rows)]  # fmt: skip
        assert value == pytest.approx(100 * np.mean(first))
    if not own:
        nearest = KNeighborsClassifier(4, metric="cosine", weights=lambda gap: np.exp((1 - gap) / TEMPERATURE))
        nearest.fit(gallery.numpy(), theirs.numpy())
        assert found.knn == pytest.approx(100 * nearest.score(queries.numpy(), labels.numpy()))
    assert "mAP" in found.lines() and "4-NN" in found.lines()


def test_perfect_descriptors_and_an_image_alone():
    labels = torch.tensor([0, 0, 1, 1, 2])
    found = retrieve(torch.eye(3)[labels], labels, neighbours=1)
    assert (found.queries, found.alone, found.mean_average_precision, found.knn) == (5, 1, 100.0, 80.0)
    assert found.recall == {1: 100.0}  # five images have no five others
    assert "1 of them alone" in found.lines()


def test_a_single_image():
    with pytest.raises(DataError, match="two images"):
        retrieve(torch.ones(1, 3), torch.zeros(1, dtype=torch.long))
