"""Trained classifiers of covariance heads at low rank: errors of the logits and accuracy, by the three methods."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gcp
from gcp.compress import decompose

METHODS = ("svd", "asvd", "output_pca")


def fit(model, x, y, epochs, lr=3e-3, batch=128):
    optimizer = torch.optim.Adam(model.parameters(), lr)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=generator).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def digits():
    """A classifier trained on the digits of scikit-learn, and images that it has not seen."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels)
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*body, gcp.create_head("svd_pade", 16), nn.Linear(136, 10))
    return fit(model, x[:1200], y[:1200], 12), x[:1200], x[1200:], y[1200:]


@pytest.fixture(scope="module")
def hundred():
    """A linear head trained for 100 classes on generated features whose deviations fall as 1/i in turned axes."""
    generator = torch.Generator().manual_seed(0)
    n, classes = 200, 100
    axes = torch.linalg.qr(torch.randn(n, n, generator=generator)).Q
    scale = 1 / torch.arange(1, n + 1)
    means = torch.randn(classes, n, generator=generator)

    def draw(count):
        y = torch.arange(count) % classes
        return ((means[y] + 0.5 * torch.randn(count, n, generator=generator)) * scale) @ axes.mT + 0.1, y

    (x, y), (x_test, y_test) = draw(6000), draw(3000)
    torch.manual_seed(0)
    return fit(nn.Sequential(nn.Linear(n, classes)), x, y, 25, lr=0.03, batch=500), x, x_test, y_test


@torch.no_grad()
def results(case, rank):
    """Relative error of the centred logits and accuracy on unseen data, by method; the dense accuracy as well."""
    model, x, x_test, y_test = case
    dense = model(x_test)
    found = {"dense": (0.0, (dense.argmax(1) == y_test).float().mean().item())}
    last = str(len(model) - 1)
    for method in METHODS:
        small, _ = decompose(model, rank=rank, method=method, data=x.split(400), include=[last], force=True)
        logits = small(x_test)
        error = ((logits - dense).norm() / (dense - dense.mean(0)).norm()).item()
        found[method] = error, (logits.argmax(1) == y_test).float().mean().item()
    return found


@pytest.mark.parametrize(("name", "rank"), [("digits", r) for r in (2, 4, 6)] + [("hundred", r) for r in (10, 20, 40)])
def test_output_pca_keeps_more_than_the_others(name, rank, request):
    found = results(request.getfixturevalue(name), rank)
    print(name, rank, {key: (round(e, 3), round(100 * a, 1)) for key, (e, a) in found.items()})
    assert found["dense"][1] > 0.9
    for other in ("svd", "asvd"):
        assert found["output_pca"][0] < 0.9 * found[other][0], other
        assert found["output_pca"][1] >= found[other][1], other
