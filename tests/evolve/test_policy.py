"""Who decides on widths: singular values, prices, costs and bounds, each against numbers made another way."""

import re
from copy import deepcopy

import pytest
import torch
from torch import nn

from gcp.errors import OptionError, UnknownNameError
from gcp.evolve import resize, shrink, trace
from gcp.evolve.policy.budget import MIB, Bounds, Budget, Costs, Decision, Price, by_budget, prices
from gcp.evolve.policy.policies import (
    BudgetPolicy,
    SpectrumPolicy,
    activation_values,
    by_spectrum,
    chosen,
    weight_values,
)
from gcp.models import create_model
from gcp.models.parts import freeze


@pytest.fixture(scope="module")
def images():
    return [torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(n)) for n in range(2)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("resnet8_cifar", head="svd_pade", num_classes=5, dim=8)


@pytest.fixture
def plain():
    """A plain network with a width of six, of which two units are copies: rank 4 behind the ReLU."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 3))
    with torch.no_grad():
        for tensor in (model[0].weight, model[0].bias):
            tensor[4:] = tensor[:2]
    return model


def test_singular_values_of_activations_are_those_of_the_matrix(plain, images):
    dimensions = trace(plain, images[0])
    values = activation_values(plain, {name: dimensions[name] for name in ("0", "2")}, images)
    seen = plain[:2](torch.cat(images)).detach().double().movedim(1, -1).flatten(0, -2)
    wanted = torch.linalg.svdvals(seen - seen.mean(0))
    torch.testing.assert_close(values["0"] / values["0"][0], wanted / wanted[0], atol=1e-6, rtol=1e-6)
    assert (values["0"][:4] > 1e-2 * values["0"][0]).all() and (values["0"][4:] < 1e-6 * values["0"][0]).all()
    seen = plain[:4](torch.cat(images)).detach().double()  # a linear layer reads the flattened map
    columns = seen.flatten(2) - seen.flatten(2).mean(0)
    wanted = torch.linalg.svdvals(columns.movedim(1, -1).flatten(0, -2))
    torch.testing.assert_close(values["2"] / values["2"][0], wanted / wanted[0], atol=1e-6, rtol=1e-6)


def test_a_pooled_width_is_seen_as_its_covariance(model, images):
    dimensions = trace(model, images[0])
    values = activation_values(model, {"head.reduction": dimensions["head.reduction"]}, images)["head.reduction"]
    x = model.eval().head.reduction(model.features(torch.cat(images))).detach().double().flatten(2)
    x = x - x.mean(2, keepdim=True)
    wanted = torch.linalg.eigvalsh((x @ x.mT).sum(0)).flip(0).sqrt()
    torch.testing.assert_close(values / values[0], wanted / wanted[0], atol=1e-6, rtol=1e-6)


def test_singular_values_of_weights(model, images):
    dimensions = trace(model, images[0])
    dimension = dimensions["features.body.layer2.0.conv2"]
    values = weight_values(model, {"it": dimension}, images)["it"]
    parts = [model.get_submodule(name).weight.detach().double().flatten(1) for name in dimension.producers]
    assert len(parts) == 2
    wanted = torch.linalg.svdvals(torch.cat([part / part.norm() for part in parts], 1))
    torch.testing.assert_close(values, wanted)


def test_weights_of_parts_side_by_side(images):
    """Of a depthwise convolution over a concatenation, a part has its own rows."""

    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1)
            self.deep, self.last = nn.Conv2d(10, 10, 3, groups=10), nn.Conv2d(10, 2, 1)

        def forward(self, x):
            return self.last(self.deep(torch.cat([self.a(x), self.b(x)], 1)).relu())

    model = Parts()
    dimension = trace(model, images[0])["b"]
    values = weight_values(model, {"b": dimension}, images)["b"]
    parts = [weight.detach().double().flatten(1) for weight in (model.b.weight, model.deep.weight[4:])]
    wanted = torch.linalg.svdvals(torch.cat([part / part.norm() for part in parts], 1))
    torch.testing.assert_close(values, wanted)


class Width:
    def __init__(self, width, step=1, of_heads=False):
        self.width, self.step, self.of_heads = width, step, of_heads


@pytest.mark.parametrize(
    ("values", "width", "after"),
    [
        ([1, 0.5, 0.2, 0.15], 4, 6),  # none is small: grows by half
        ([1, 0.5, 0.2, 0.05], 4, 4),
        ([1, 0.5, 0.2, 0.005], 4, 3),
        ([1, 0.5, 0.2, 0.005, 1e-3, 1e-4, 0, 0, 0], 9, 6),  # six are negligible, one edit takes a third
        ([1, 0.001], 2, 2),  # at its smallest
        ([0.0, 0, 0, 0], 4, 3),
    ],
)
def test_by_spectrum(values, width, after):
    found = by_spectrum({"a": torch.tensor(values)}, {"a": Width(width)}, Bounds(2, 8, 1.5), 0.01, 0.1)
    assert [decision[:3] for decision in found] == ([("a", width, after)] if after != width else [])


def test_reasons():
    values = {"a": torch.tensor([2.0, 1.0]), "b": torch.tensor([2.0, 0.01, 0.0])}
    found = by_spectrum(values, {"a": Width(2), "b": Width(3)}, Bounds(1), 0.01, 0.1)
    grown, shrunk = [decision.why for decision in found]
    assert re.search(r"smallest singular value 0\.5 .*above 0\.1$", grown)
    assert re.search(r"\b2 of 3 singular values below 0\.01 ", shrunk)


@pytest.mark.parametrize(
    ("bounds", "before", "wanted", "step", "after"),
    [
        (Bounds(8, None, 1.5), 30, 5, 1, 20),
        (Bounds(8, None, 1.5), 30, 25, 1, 25),
        (Bounds(8, None, 1.5), 9, 1, 1, 8),
        (Bounds(8, None, 1.5), 5, 1, 1, 5),
        (Bounds(1, None, 1.01), 5, 1, 1, 4),
        (Bounds(8, None, 1.5), 32, 21, 8, 24),
        (Bounds(8, 40, 1.5), 30, 99, 1, 40),
        (Bounds(8, 64, 1.5), 30, 99, 1, 45),
        (Bounds(8, 20, 1.5), 30, 99, 1, 30),
        (Bounds(1, None, 1.01), 5, 99, 1, 6),
        (Bounds(8, None, 1.5), 32, 99, 32, 64),
    ],
)
def test_bounds(bounds, before, wanted, step, after):
    change = bounds.shrunk if wanted < before else bounds.grown
    assert change(before, wanted, step) == after


@pytest.mark.parametrize("unit", ["parameters", "flops", "MiB"])
@pytest.mark.parametrize(
    "widths", [{}, {"head.reduction": 5}, {"features.body.conv1": 9, "features.body.layer1.0.conv1": 20}]
)
def test_costs_are_those_of_the_model_that_is_built(unit, widths, model, images):
    image = images[0][:1]
    costs = Costs(model, trace(model, image), image, unit)
    before = costs({})
    found = costs(widths)
    assert costs({}) == before
    resize(model, widths)
    assert found == pytest.approx(_measured(model, image, unit), rel=1e-9)


def test_layers_with_computed_weights_have_their_flops(images):
    plain, orthogonal = (
        create_model("resnet8_cifar", head="covariance", num_classes=5, dim=8, reduction=reduction)
        for reduction in ("conv", "orthogonal")
    )
    costs = [Costs(each, trace(each), images[0][:1], "flops")({}) for each in (plain, orthogonal)]
    assert costs[0] == costs[1]


def _measured(model, image, unit):
    """By hooks on the model as it is, and torch's own counter of FLOPs."""
    from torch.utils.flop_counter import FlopCounterMode

    parameters = sum(p.numel() for p in model.parameters())
    if unit == "parameters":
        return parameters
    sizes = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            module.register_forward_hook(lambda _, __, out: sizes.append(out.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        features = model.eval().features(image)
        reduced = model.head.reduction(features)
        model.logits(model.head.pool(reduced))
    if unit == "MiB":
        return 4 * (parameters + sum(sizes)) / MIB
    counts = counter.get_flop_counts()["Global"]
    return sum(value for key, value in counts.items() if str(key).split(".")[-1] in ("convolution", "addmm"))


@pytest.mark.parametrize(
    ("text", "budget", "bound"),
    [
        ("20000 parameters", Budget(20000, "parameters"), 20000),
        ("12.5k parameters", Budget(12500, "parameters"), 12500),
        (" 5e6 FLOPS", Budget(5e6, "flops"), 5e6),
        ("2 MiB", Budget(2, "MiB"), 2),
        ("1M flops", Budget(1e6, "flops"), 1e6),
        ("25 % parameters", Budget(0.25, "parameters", True), 100),
    ],
)
def test_budget(text, budget, bound):
    assert Budget.parse(text) == budget and budget.of(400) == bound


@pytest.mark.parametrize(
    "text", ["", "20", "20 %", "parameters", "-3 MiB", "0 MiB", "3 GB", "nan flops", "1e999 flops"]
)
def test_no_budget(text):
    with pytest.raises(OptionError, match=r"allowed: .*above 0 .*parameters, flops, MiB"):
        Budget.parse(text)


COSTS = {"a": 10, "b": 1, "c": 4}  # of a unit


def costs_of(dimensions):
    return lambda widths: sum(COSTS[n] * widths.get(n, d.width) for n, d in dimensions.items())


def test_the_cheapest_shrink_first_and_no_further_than_asked():
    dimensions = {name: Width(20) for name in COSTS}
    found = {"a": Price(0.5, 60), "b": Price(0.2, 6), "c": Price(0.1, 24)}
    decisions = by_budget(found, dimensions, costs_of(dimensions), 270, Bounds(8, None, 1.5), "units")
    # c gives 6 units for 24; the cost is 276 then, and one unit of a brings it below 270
    assert [decision[:3] for decision in decisions] == [("c", 20, 14), ("a", 20, 19)]
    assert re.search(r"\b300 units.*\b270 .*\b0\.1 .*\b24$", decisions[0].why)


def test_the_dearest_grow_first_and_no_further_than_asked():
    dimensions = {name: Width(20) for name in COSTS}
    found = {"a": Price(0.5, 60), "b": Price(0.2, 6), "c": Price(0.1, 24)}
    decisions = by_budget(found, dimensions, costs_of(dimensions), 336, Bounds(8, None, 1.5), "units")
    assert [decision[:3] for decision in decisions] == [("b", 20, 30), ("a", 20, 22), ("c", 20, 21)]


def test_a_budget_out_of_reach_takes_what_it_may():
    dimensions = {"a": Width(9), "b": Width(8), "c": Width(12)}
    found = {name: Price(0.1, 1) for name in dimensions}
    decisions = by_budget(found, dimensions, costs_of(dimensions), 1, Bounds(8, None, 1.5), "units")
    assert {decision[:3] for decision in decisions} == {("a", 9, 8), ("c", 12, 8)}


def test_prices_are_measured_and_leave_the_model_alone(model, images):
    dimensions = chosen(model, trace(model, images[0]), ["head", "features.layer3.0.conv1"])
    assert list(dimensions) == ["features.body.layer3.0.conv1", "head.reduction"]
    before, costs = deepcopy(model.state_dict()), Costs(model, dimensions, images[0][:1], "parameters")
    beats = []
    found = prices(model, dimensions, images, costs, 2.0, lambda: beats.append(None))
    assert len(beats) == len(found) == 2
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    twin = deepcopy(model)
    report = shrink(twin, "head.reduction", 4, images)
    removed = report.parameters_before - report.parameters_after
    assert found["head.reduction"] == Price(pytest.approx(report.error, rel=1e-6), removed)


@pytest.mark.parametrize("bound", [3e4, 2e5])
def test_within_budget_arrives_at_the_last_event(bound, model, images, caplog):
    policy = BudgetPolicy(("features.layer3", "head"), Bounds(2, None, 2.0), bound)
    start = last = Costs(model, trace(model, images[0]), images[0][:1], "parameters")({})
    for left in (2, 1):
        for decision in policy(model, images, left):
            resize(model, {decision.dimension: decision.after})
        now = sum(p.numel() for p in model.parameters())
        assert (now < last) == (bound < start)
        last = now
    assert last <= bound and last > 0.9 * bound and "evolve.budget" not in caplog.text


def test_a_budget_that_is_missed_is_told(model, images, caplog):
    BudgetPolicy(("head",), Bounds(8, None, 1.5), 100.0)(model, images, 1)
    assert "evolve.budget: the model costs" in caplog.text and "100 were asked for" in caplog.text


def test_where(model, images):
    dimensions = trace(model, images[0])
    names = [name for name, each in dimensions.items() if each.editable]
    assert list(chosen(model, dimensions, ["features", "head", "classifier"])) == names
    assert list(chosen(model, dimensions, [])) == names
    assert list(chosen(model, dimensions, ["*layer2*"])) == [name for name in names if "layer2" in name]
    assert list(chosen(model, dimensions, ["features.layer3"])) == [name for name in names if "layer3" in name]
    with pytest.raises(UnknownNameError, match=r"unknown width 'features\.layer4'\. Did you mean"):
        chosen(model, dimensions, ["features.layer4"])
    with pytest.raises(OptionError, match=r"classifier: .*output"):
        chosen(model, dimensions, ["classifier"])
    freeze(model, ["features"])
    assert list(chosen(model, dimensions, ["features", "head"])) == ["head.reduction"]
    with pytest.raises(OptionError, match=r"layer3\.0\.conv2 is frozen"):
        chosen(model, dimensions, ["features.layer3.0.conv2"])


def test_decisions_are_plain_data(model, images):
    found = SpectrumPolicy(("features", "head"), Bounds(4), shrink_below=0.05)(model, images, 3)
    assert found and all(isinstance(decision, Decision) for decision in found)
    for decision in found:
        assert [type(value) for value in decision] == [str, int, int, str]
