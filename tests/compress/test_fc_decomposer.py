"""fasterai's FC_Decomposer: its procedure, written out once more, against ours; and what both keep at equal size."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gcp
from gcp.compress import FC_Decomposer, decompose
from gcp.errors import OptionError


def published(layer, percent_removed):
    """The product and the rank of the published factors."""
    U, s, Vh = torch.linalg.svd(layer.weight.detach().double(), full_matrices=False)
    kept = max(1, int((1.0 - percent_removed) * layer.out_features))  # there a rank of 0 leaves the bias alone
    return (U[:, :kept] * s[:kept]) @ Vh[:kept], min(kept, len(s))


@pytest.mark.parametrize("removed", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (20, 20)])
def test_the_published_factors(shape, removed):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(*shape), nn.ReLU()), nn.Linear(shape[1], 10))
    with warnings.catch_warnings(record=True):
        small = FC_Decomposer().decompose(model, percent_removed=removed)
    for old, new in ((model[1][0], small[1][0]), (model[2], small[2])):
        product, rank = published(old, removed)
        assert new.ranks == (rank,) and torch.equal(new.bias, old.bias)
        assert torch.allclose(new.weight.double(), product, atol=1e-6)


def test_what_was_wrong_there_is_right_here():
    torch.manual_seed(0)
    plain = nn.Linear(512, 512, bias=False, dtype=torch.float64).requires_grad_(False).eval()
    with pytest.warns(UserWarning, match=r"262,144 -> 393,216.*decompose"):
        small = FC_Decomposer(0.25).decompose(plain)  # the model itself
    assert small.bias is None and not small.up.weight.requires_grad and not small.training
    x = torch.randn(3, 512, dtype=torch.float64)
    assert torch.allclose(small(x), x @ published(plain, 0.25)[0].mT, atol=1e-9)
    shared = nn.Linear(8, 8)
    twice = FC_Decomposer().decompose(nn.ModuleDict({"a": shared, "b": shared}))
    assert twice["a"] is twice["b"]
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    with warnings.catch_warnings(record=True):
        assert FC_Decomposer().decompose(attention)(torch.randn(2, 3, 8)).shape == (2, 3, 8)
    for share in (1, -0.1, True, "half"):
        with pytest.raises(OptionError, match="percent_removed"):
            FC_Decomposer(share)


@pytest.fixture(scope="module")
def covariances():
    """A classifier of the roots of covariances of 60 classes, which differ by turns of the same strong directions."""
    generator = torch.Generator().manual_seed(0)
    classes, d, maps = 60, 24, 40
    base = torch.linalg.qr(torch.randn(d, d, generator=generator)).Q * torch.logspace(0, -2, d).sqrt()
    roots = base + 0.12 * base.norm() / d * torch.randn(classes, d, d, generator=generator)

    def draw(count):
        y = torch.arange(count) % classes
        return torch.bmm(roots[y], torch.randn(count, d, 49, generator=generator)).view(count, d, 7, 7), y

    head = gcp.create_head("svd_exact", d)
    (x, y), (x_test, y_test) = ((head(images), labels) for images, labels in (draw(classes * maps), draw(classes * 20)))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(x.shape[1], classes))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        for part in torch.randperm(len(x), generator=generator).split(400):
            optimizer.zero_grad()
            F.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
    return model, x, x_test, y_test


@pytest.mark.parametrize("removed", [0.9, 0.8, 0.7, 0.5])
@torch.no_grad()
def test_a_covariance_classifier_at_equal_size(covariances, removed):
    """By the outputs the logits are nearer; which has more right depends on the classes (docs/compress.md)."""
    model, x, x_test, y_test = covariances
    by_weight = FC_Decomposer(removed).decompose(model)
    by_output, _ = decompose(model, rank=by_weight[0].ranks[0], data=x.split(400), force=True)
    assert sum(p.numel() for p in by_weight.parameters()) == sum(p.numel() for p in by_output.parameters())
    logits = [each(x_test) for each in (model, by_weight, by_output)]
    errors = [float((each - logits[0]).norm() / (logits[0] - logits[0].mean(0)).norm()) for each in logits[1:]]
    right = [round(100 * float((each.argmax(1) == y_test).float().mean()), 1) for each in logits]
    print(removed, by_weight[0].ranks, right, errors)
    assert errors[1] < 0.95 * errors[0] and right[0] > 95
