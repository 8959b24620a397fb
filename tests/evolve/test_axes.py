"""Principal axes of a head that pools what is affine in its reduction."""

import copy

import pytest
import torch
from torch import nn

import gcp
from gcp.evolve import shrink, trace
from gcp.evolve.axes import principal_axes, rotatable, rotate_axes

HEADS = ["covariance", "svd_exact", "newton_schulz", "polar_express", "seb", "second_moment", "power"]


def linear_head(make, head, norm=True, bias=False, dim=6):
    """A classifier without the ReLU behind its reduction, with or without the batch norm."""
    model = make(head, dim=dim)
    reduction = model.head.reduction
    reduction[2] = nn.Identity()
    if not norm:
        reduction[1] = nn.Identity()
    if bias:
        reduction[0] = nn.Conv2d(64, dim, 1)
    return model


@pytest.mark.parametrize(("norm", "bias"), [(True, False), (True, True), (False, True)])
@pytest.mark.parametrize("head", HEADS)
def test_turning_changes_nothing(make, images, head, norm, bias):
    model = linear_head(make, head, norm, bias)
    before = model(images)
    rotation = rotatable(model, trace(model)["head.reduction"])
    assert rotation is not None
    U = principal_axes(model, rotation, images)
    rotate_axes(model, rotation, U, images)
    assert torch.allclose(model(images), before, atol=2e-5)
    with torch.no_grad():
        z = model.head.reduction(model.features(images)).flatten(2)
    P = torch.einsum("bim,bjm->ij", *[z - z.mean(2, keepdim=True)] * 2)
    values = P.diagonal()
    assert (P - values.diag()).abs().max() < 1e-5 * values.max() and (values.diff() <= 0).all()


def test_in_training_mode_the_norm_scales_as_before(make, images):
    """Its statistics are those of the images; only their estimate of the variance differs."""
    model = linear_head(make, "covariance")
    rotation = rotatable(model, trace(model)["head.reduction"])
    rotate_axes(model, rotation, principal_axes(model, rotation, images), images)
    x = model.features(images)
    evaluated = model.head.reduction(x)
    assert torch.allclose(model.head.reduction.train()(x), evaluated, atol=1e-3)


def test_the_cost_of_a_direction(make, images):
    """sqrt(l_min) / |sqrt P| of the root, for one image; off-diagonal entries are there twice."""
    model = linear_head(make, "svd_exact", dim=5)
    one = images[:1]
    with torch.no_grad():
        z = model.head.reduction(model.features(one)).double()[0].flatten(1)
        z = z - z.mean(1, keepdim=True)
        values, vectors = torch.linalg.eigh(z @ z.T / z.shape[1])
        full = vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T
    shrink(model, "head.reduction", 4, one, fit=False)
    with torch.no_grad():
        packed = model.head(model.features(one))[0].double()
    row, column = torch.triu_indices(4, 4)
    Q = torch.zeros(4, 4, dtype=torch.float64)
    Q[row, column] = packed
    Q[column, row] = packed
    assert torch.allclose(Q, values[1:].flip(0).sqrt().diag(), atol=1e-5)
    lost = (full.square().sum() - Q.square().sum()).clamp(min=0).sqrt() / full.norm()
    assert lost == pytest.approx(float(values[0].sqrt() / full.norm()), rel=1e-3)


def test_a_weak_direction_costs_less_than_a_channel(make, images):
    model = linear_head(make, "svd_exact")
    with torch.no_grad():  # no channel is weak, one direction is
        weight = model.head.reduction[0].weight
        weight[5] = weight[:5].sum(0) + 1e-3 * weight[5]
    errors = {}
    for method in ("pivot", "magnitude", "last"):
        narrow = copy.deepcopy(model)
        report = shrink(narrow, "head.reduction", 5, images, method=method, fit=False)
        errors[method] = report.error
        assert report.kept == (() if method == "pivot" else report.kept) and narrow.head.channels == 5
    assert errors["pivot"] < 0.1 * min(errors["magnitude"], errors["last"])


def test_the_optimizer_begins_anew_where_axes_turn(make, images):
    model = linear_head(make, "svd_exact")
    optimizer = torch.optim.Adam(model.parameters())
    model(images).sum().backward()
    optimizer.step()
    shrink(model, "head.reduction", 5, images, optimizer=optimizer)
    assert not optimizer.state[model.head.reduction[0].weight]["exp_avg"].any()
    assert not optimizer.state[model.classifier.weight]["exp_avg_sq"].any()
    assert optimizer.state[model.features.body.conv1.weight]["exp_avg"].any()
    assert optimizer.state[model.classifier.weight]["exp_avg"].shape == (5, 15)


def test_an_average_turns_by_the_same_axes(make, images):
    model = linear_head(make, "svd_exact")
    average = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.mul_(1.01)
    before = average(images)
    shrink(model, "head.reduction", 5, images, ema=average)
    assert average.head.channels == 5
    assert ((average(images) - before).norm() / before.norm()) < 0.5


def test_with_a_relu_channels_are_chosen(make, images):
    model = make("svd_exact")
    assert rotatable(model, trace(model)["head.reduction"]) is None
    assert len(shrink(model, "head.reduction", 4, images).kept) == 4


def test_what_has_other_readers_or_writers_is_not_turned(images):
    class Two(nn.Module):
        """The pooled map is read by a convolution as well."""

        def __init__(self):
            super().__init__()
            self.conv, self.beside = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
            self.head = gcp.create_head("covariance", 6)
            self.last = nn.Linear(21, 2)

        def forward(self, x):
            x = self.conv(x)
            return self.last(self.head(x)) + self.beside(x).mean((2, 3))

    model = Two()
    dimension = trace(model, images)["conv"]
    assert dimension.pooled and rotatable(model, dimension) is None
    before = model(images)
    assert shrink(model, "conv", 5, images).error < 1
    assert model(images).shape == before.shape
