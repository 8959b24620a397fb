"""What is dropped, and what the rest makes up for."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from gcp.errors import NonFiniteError, OptionError
from gcp.evolve import shrink, trace
from gcp.evolve.choose import pivots
from gcp.evolve.refit import ridge


def error(new, old):
    return ((new - old).norm() / old.norm()).item()


def pair(inputs=20, hidden=64, rank=12):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.Linear(hidden, 10))
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(hidden, rank) @ torch.randn(rank, inputs) / 4)
        model[0].bias.normal_()
    return model


@pytest.mark.parametrize("width", [40, 13, 12])
def test_a_linear_pair_of_lower_rank_loses_nothing(width):
    model = pair()
    x, other = torch.randn(300, 20), torch.randn(100, 20)
    before = model(other)
    report = shrink(model, "0", width, x)
    assert report.error <= 1e-5 and error(model(other), before) <= 1e-5
    assert (report.before, report.after, len(report.kept)) == (64, width, width)
    assert report.parameters_after == 21 * width + 10 * width + 10


def test_below_the_rank_it_says_what_is_lost():
    model = pair()
    before = copy.deepcopy(model)
    x = torch.randn(400, 20)
    report = shrink(model, "0", 8, x)
    assert report.error > 0.05
    held = x[3::4]
    assert report.error == pytest.approx(error(model(held), before(held)), rel=1e-4)


@pytest.fixture(scope="module")
def trained():
    """64 hidden units, trained on digits."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(20):
        for batch in torch.randperm(1400).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return model, x[:1400], x[1400:]


def test_a_quarter_of_the_units_of_a_trained_network(trained):
    found = {}
    for method, fit in (("last", False), ("magnitude", False), ("magnitude", True), ("pivot", True)):
        model = copy.deepcopy(trained[0])
        report = shrink(model, "0", 48, trained[1], method=method, fit=fit)
        found[method, fit] = error(model(trained[2]), trained[0](trained[2]))
        assert report.error == pytest.approx(found[method, fit], rel=0.3)  # of images that it has not seen
    assert found["pivot", True] <= 0.01
    assert found["pivot", True] < found["magnitude", False] / 5 < found["last", False] / 5


def test_the_refit_is_that_of_least_squares(trained):
    """numpy on the activations, with a column of ones for the bias."""
    model, x = copy.deepcopy(trained[0]), trained[1]
    keep = list(range(0, 64, 2))
    fitted = x[torch.arange(len(x)) % 4 != 3]
    with torch.no_grad():
        hidden = model[1](model[0](fitted)).double().numpy()
        wanted = model(fitted).double().numpy()
    design = np.c_[hidden[:, keep], np.ones(len(hidden))]
    best = np.linalg.lstsq(design, wanted, rcond=None)[0]
    residual = np.linalg.norm(design @ best - wanted)
    shrink(model, "0", images=x, keep=keep)
    ours = np.linalg.norm(design @ np.c_[model[2].weight.detach(), model[2].bias.detach()].T - wanted)
    assert residual <= ours <= 1.02 * residual  # cross-validation may stop a little short of it


@pytest.mark.parametrize(("padding", "stride"), [(1, 1), ("same", 1), ((0, 2), (2, 1))])
def test_the_refit_of_a_convolution(padding, stride):
    """Its reader sees two copies of one channel: one of them can go, borders included."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3, stride, padding, bias=False), nn.Flatten())
    with torch.no_grad():
        model[0].weight[5], model[0].bias[5] = 2 * model[0].weight[1], 2 * model[0].bias[1]
    x = torch.randn(40, 3, 9, 9)
    before = model(x)
    ends = nn.Sequential(*model[:3])  # flattened outputs are no output of the last convolution
    report = shrink(ends, "0", 5, x)
    assert set(report.kept) in ({0, 1, 2, 3, 4}, {0, 2, 3, 4, 5})
    assert report.error <= 1e-5 and error(ends(x).flatten(1), before) <= 1e-5


def test_a_constant_goes_into_the_mean_of_the_norm_behind():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    with torch.no_grad():
        model[0].weight[5], model[0].bias[5] = 0, 3.0  # the same everywhere
        for _ in range(9):
            model(torch.randn(20, 3, 5, 5))
    x = torch.randn(40, 3, 5, 5)
    before = model.eval()(x)
    report = shrink(model, "0", images=x, keep=range(5))
    assert report.error <= 1e-5 and error(model(x), before) <= 1e-5


def masked(model, dimension, keep):
    """The wide network with zeros in the columns that read what is dropped."""
    model = copy.deepcopy(model)
    gone = [c for c in range(dimension.width) if c not in keep]
    with torch.no_grad():
        for axis in dimension.graph.readers(dimension):
            columns = model.get_parameter(axis.tensor)
            size = columns.shape[1] // axis.layout.size
            assert size == 1
            columns[:, axis.layout.places(dimension)[gone].flatten()] = 0
    return model


def test_without_a_refit_it_is_the_masked_network(network, images):
    for name, dimension in trace(network, images).items():
        if dimension.editable:
            keep = list(range(0, dimension.width, 2)) if dimension.step == 1 else list(range(3, 9))
            wide = masked(network, dimension, keep)
            narrow = copy.deepcopy(network)
            report = shrink(narrow, name, keep=keep, example=images)
            assert report.kept == tuple(keep) and report.error is None
            assert torch.allclose(narrow(images), wide(images), atol=1e-5), name
            assert report.parameters_after == sum(parameter.numel() for parameter in narrow.parameters())


def test_columns_by_hand():
    """Maps of 2 x 2 that are flattened: columns 4 c to 4 c + 3 belong to channel c."""
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Flatten(), nn.Linear(16, 3))
    old = model[2].weight.detach().clone()
    shrink(model, "0", keep=[0, 3], example=torch.empty(1, 1, 2, 2))
    assert torch.equal(model[2].weight, old[:, [0, 1, 2, 3, 12, 13, 14, 15]])


def test_concatenated_columns_by_hand(make, images):
    model = make("dense")
    old = copy.deepcopy(model)
    shrink(model, "second", keep=[1, 2], example=images)
    assert torch.equal(model.third.weight, old.third.weight[:, [0, 1, 2, 3, 4, 5, 7, 8]])
    assert torch.equal(model.both.running_var, old.both.running_var[[0, 1, 2, 3, 4, 5, 7, 8]])
    assert torch.equal(model.last.weight, old.last.weight[:, [0, 1, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13]])
    assert torch.equal(model.norm.weight, old.norm.weight)


@pytest.mark.parametrize("head", ["covariance", "svd_pade", "polar_express", "newton_schulz"])
def test_a_head_without_channels_is_one_in_which_they_are_zero(make, images, head):
    """The root of a covariance with zero rows is that of the rest, with zero rows."""
    model = make(head)
    keep, gone = [0, 2, 3, 5], [1, 4]
    wide = copy.deepcopy(model)
    with torch.no_grad():
        wide.head.reduction[1].weight[gone] = 0
        wide.head.reduction[1].bias[gone] = 0
    shrink(model, "head.reduction", keep=keep)
    assert torch.allclose(model(images), wide(images), atol=1e-5)


@pytest.mark.parametrize("head", ["covariance", "svd_pade", "polar_express"])
@pytest.mark.parametrize("count", [12, 60])  # fewer images than columns of the classifier, and more
def test_a_head_is_refitted(make, head, count):
    model = make(head)
    images = torch.randn(count, 3, 12, 12) + torch.randn(count, 3, 1, 1)
    errors = []
    for fit in (False, True):
        narrow = copy.deepcopy(model)
        errors.append(shrink(narrow, "head.reduction", 4, images, fit=fit).error)
        assert narrow.head.channels == 4 and narrow.classifier.in_features == 10
    assert errors[1] < (1.25 if count == 12 else 1) * errors[0]


def test_copies_go_first():
    S = torch.eye(4, dtype=torch.float64)
    columns = torch.tensor([0, 1, 2, 2, 3, 1])
    scales = torch.tensor([3.0, 2, 1, 0.5, 4, 1], dtype=torch.float64)
    S = S[columns][:, columns] * scales[:, None] * scales
    assert pivots(S, 4).tolist() == [4, 0, 1, 2]
    assert pivots(S, 2, step=2).tolist() == [2, 0]  # blocks of 9 + 4, 1 + 1/4 of one direction, 16 + 1


def test_magnitude_takes_the_strongest(make, images):
    model = make("residual")
    with torch.no_grad():
        model.inner.weight[[1, 4]] *= 0.01
        model.outer.weight[:, 2] *= 0.01
    assert shrink(model, "inner", 3, method="magnitude", example=images).kept == (0, 3, 5)


def test_several_at_once(make, images):
    model = make("residual")
    before = model(images)
    reports = shrink(model, {"stem": 7, "inner": 5, "next": 11}, images=images)
    assert list(reports) == ["stem", "inner", "next"]
    assert reports["next"].parameters_after == sum(parameter.numel() for parameter in model.parameters())
    assert reports["stem"].parameters_after == reports["inner"].parameters_before
    assert error(model(images), before) < 0.5


def test_ridge_is_exact_where_it_can_be():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(50, 8, dtype=torch.float64, generator=generator)
    D = torch.randn(3, 8, dtype=torch.float64, generator=generator)
    assert torch.allclose(ridge(X, X @ D.T), D, atol=1e-9)
    wide = X.T  # 8 equations for 50 numbers: the smallest solution, by numpy
    R = torch.randn(8, 3, dtype=torch.float64, generator=generator)
    best = np.linalg.lstsq(wide.numpy(), R.numpy(), rcond=None)[0].T
    assert np.linalg.norm(ridge(wide, R).numpy()) <= np.linalg.norm(best) * (1 + 1e-9)
    assert not ridge(X * 0, X @ D.T).any()


def test_cross_validation_leaves_noise_alone():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(60, 50, dtype=torch.float64, generator=generator)
    noise = torch.randn(60, 4, dtype=torch.float64, generator=generator)
    plain = np.linalg.lstsq(X.numpy(), noise.numpy(), rcond=None)[0]
    assert ridge(X, noise).norm() < 0.2 * np.linalg.norm(plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 4}, r"'pivot' .*activations.*give images"),
        ({"width": 4, "method": "magnitud"}, r"'magnitud'; .*Did you mean 'magnitude'"),
        ({"width": 7, "method": "last"}, "is 6: to 7 it does not shrink; use grow"),
        ({"keep": [0, 0]}, "0 to 5, each once"),
        ({"keep": [0, 6]}, "0 to 5, each once"),
        ({"keep": [-1, 2]}, "0 to 5, each once"),
        ({"keep": []}, "is 0; allowed: a whole number >= 1"),
        ({"keep": [0], "width": 1}, "give neither several nor a width"),
        ({"width": 4, "images": []}, "images is empty"),
        ({"width": 4, "images": torch.empty(0, 3, 12, 12)}, "images is empty"),
        ({"width": 4, "images": [[torch.zeros(2, 3, 12, 12), torch.zeros(2)]]}, "images is list of list"),
    ],
)
def test_faults_change_nothing(make, images, options, message):
    model = make("residual")
    state = copy.deepcopy(model.state_dict())
    with pytest.raises(OptionError, match=message):
        shrink(model, "inner", example=images, **options)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_groups_are_kept_whole(make, images):
    model = make("grouped")
    with pytest.raises(OptionError, match=r"keep .*whole groups .*'into'.*3 channels"):
        shrink(model, "into", keep=[0, 1, 3], example=images)
    kept = shrink(model, "into", 6, images).kept
    assert [k % 3 for k in kept] == [0, 1, 2] * 2 and model.groups.groups == 2


def test_broken_weights_and_broken_images(make, images):
    model = make("residual")
    with pytest.raises(NonFiniteError, match="the model gives inf or NaN on these images"):
        shrink(model, "inner", 4, images * torch.inf)
