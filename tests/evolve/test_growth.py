"""Growth changes no output, and what is new learns."""

import copy

import pytest
import torch
from torch import nn

from gcp.errors import OptionError
from gcp.evolve import grow, trace
from gcp.evolve.growth import SMALL


def change(new, old):
    return ((new - old).norm() / old.norm()).item()


def everything(model, images, units=3):
    """Every width that can be edited, some units wider."""
    return {n: d.width + units * d.step for n, d in trace(model, images).items() if d.editable}


@pytest.mark.parametrize("training", [False, True])
def test_nothing_changes(network, images, training):
    network.train(training)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    before = copy.deepcopy(network)(images)
    reports = grow(network, everything(network, images), images=images)
    assert (network(images) - before).abs().max() <= 1e-6 * before.abs().max()
    assert network.training is training
    for report in reports.values():
        assert report.after > report.before and report.error <= 1e-6 and report.kept == tuple(range(report.before))
        assert report.parameters_after > report.parameters_before
    assert report.parameters_after == sum(parameter.numel() for parameter in network.parameters())


def test_a_classifier_grows_everywhere_but_in_what_is_pooled(make, images):
    model = make("average")
    before = model(images)
    grow(model, everything(model, images))
    assert change(model(images), before) <= 1e-6


HEADS = ["covariance", "svd_pade", "svd_taylor", "newton_schulz", "polar_express", "mpa_lyapunov", "seb"]
HEADS += ["second_moment", "power"]


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_a_covariance_head_changes_by_rounding_only(make, images, head, measured):
    model = make(head)
    before = model(images)
    report = grow(model, "head.reduction", 7, images=images if measured else None)
    assert model.head.channels == 7 and model.head.out_features == model.classifier.in_features == 28
    assert change(model(images), before) <= 1e-5
    assert report.error <= 1e-5 if measured else report.error is None


@pytest.mark.parametrize("dim", [6, None])
def test_the_scale_of_a_new_channel_of_a_head(make, images, dim):
    model = make("svd_pade", dim=dim)
    name, width = ("head.reduction", 6) if dim else ("features.body.layer3.0.conv2", 64)
    before = model(images)
    grow(model, name, width + 2, images=images)
    with torch.no_grad():
        spread = model.head.reduction(model.features(images)).flatten(2).std(2).mean(0)
    ratio = spread[width:] / spread[:width].mean()
    some = ratio > 0  # a channel that is silent on all images has no scale
    assert some.any() and (ratio[some] / SMALL - 1).abs().max() < 0.4  # measured on three quarters of them
    assert change(model(images), before) <= 1e-5


def test_columns_of_the_classifier_follow_the_triangle(make, images):
    model = make("covariance")
    old = model.classifier.weight.detach().clone()
    grow(model, "head.reduction", 8)
    wide = torch.zeros(5, 8, 8)
    row, column = torch.triu_indices(8, 8)
    wide[:, row, column] = model.classifier.weight.detach()
    row, column = torch.triu_indices(6, 6)
    assert torch.equal(wide[:, :6, :6][:, row, column], old)
    assert not wide[:, :, 6:].any()


def test_what_is_new_learns(make, images):
    model = make("svd_pade").train()
    grow(model, {"features.body.layer2.0.conv1": 34, "head.reduction": 8})
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    inner = model.features.body.layer2[0]
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), torch.arange(12) % 5).backward()
        optimizer.step()
    assert inner.conv2.weight.grad[:, 32:].abs().min() > 0 and inner.conv1.weight.grad[32:].abs().max() > 0
    assert model.classifier.weight.grad.abs().min() > 0
    assert model.head.reduction[0].weight.grad[6:].abs().max() > 0


def test_it_is_drawn_from_the_global_generator(make, images):
    models = [make("covariance") for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.manual_seed(seed)
        grow(model, "head.reduction", 8)
    first, second, third = (model.head.reduction[0].weight for model in models)
    assert torch.equal(first, second) and not torch.equal(first, third)


@pytest.mark.parametrize(
    ("which", "width", "message"),
    [
        ("inner", 5, "is 6: to 5 it does not grow; use shrink"),
        ("inner", 0, "is 0; allowed: a whole number >= 1"),
        ("inner", 7.0, "is 7.0; allowed: a whole number"),
        ("inner", None, "is None; allowed: a whole number"),
        ("last", 9, "cannot be edited: it is an output"),
        ({"stem": 9, "outer": 10}, None, "'stem' is given twice"),
        ({}, None, "no width is given"),
        ({"stem": 9}, 9, "a width is given beside"),
    ],
)
def test_faults_change_nothing(make, images, which, width, message):
    model = make("residual")
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(OptionError, match=message):
        grow(model, which, width, example=images)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_width_that_the_code_of_a_model_fixes(images):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Linear(8, 2)

        def forward(self, x):
            return self.b(self.a(x).mean((2, 3)).view(-1, 8))

    model = Fixed()
    state = copy.deepcopy(model.state_dict())
    from gcp.errors import GCPError

    with pytest.raises(GCPError, match=r"'a' .*\b8 to 9\b"):
        grow(model, "a", 9, example=images)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert trace(model, images)["a"].width == 8


def test_a_dimension_of_before_another_edit(make, images):
    model = make("residual")
    old, ties = trace(model, images)["stem"], trace(model, images)
    grow(model, ties["stem"], 10)
    grow(model, ties["inner"], 9)  # of the same trace: it has linked
    assert ties["stem"].width == 10 and ties["inner"].width == 9
    stem, inner, outer = 27 * 10 + 2 * 10, 9 * (9 * 10 + 1), 10 * (9 * 9 + 1)
    behind = 12 * (10 + 1) + 12 * (9 * 10 + 1) + 5 * (12 + 1)
    assert sum(parameter.numel() for parameter in model.parameters()) == stem + inner + outer + behind
    with pytest.raises(OptionError, match=r"'stem' .*trace again"):
        grow(model, old, 12)
