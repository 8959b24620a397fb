"""Weights under a weight norm or a spectral norm change their widths as plain ones do."""

import warnings
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from gcp.evolve import grow, shrink, trace, widths
from gcp.evolve.parametrized import plain_weights
from gcp.evolve.widths import resize
from gcp.layers import spectral_norm

WEIGHT_NORMS = {
    "weight": parametrizations.weight_norm,
    "weight, one length": lambda layer: parametrizations.weight_norm(layer, dim=None),
    "weight, hook": old_weight_norm,
}
SPECTRAL_NORMS = {
    "spectral": lambda layer: parametrizations.spectral_norm(layer, n_power_iterations=5),
    "spectral, hook": lambda layer: old_spectral_norm(layer, n_power_iterations=5),
    "exact": lambda layer: spectral_norm(layer, "exact"),
    "bound": lambda layer: spectral_norm(layer, "bound"),
    "power": lambda layer: spectral_norm(layer, "power", steps=5),
}
NORMS = WEIGHT_NORMS | SPECTRAL_NORMS
WIDE = {"0": 11, "2": 10}


def network(norm):
    """Two convolutions and a classifier, all of them parametrised, after some steps of the power iterations."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the hooks
        for layer in (model[0], model[2], model[6]):
            NORMS[norm](layer)
    images = torch.randn(32, 3, 8, 8)
    for _ in range(20):
        model(images)
    return model.eval(), images


@pytest.mark.parametrize("norm", NORMS)
def test_growth_changes_nothing_and_shrinking_back_neither(norm):
    model, images = network(norm)
    kinds, state = [type(module) for module in model], {name: v.shape for name, v in model.state_dict().items()}
    before, values = model(images), deepcopy(model.state_dict())
    reports = grow(model, WIDE, images=images)
    assert [type(module) for module in model] == kinds and model.state_dict().keys() == state.keys()
    assert (model(images) - before).norm() <= 2e-6 * before.norm()
    assert all(report.error <= 2e-6 for report in reports.values())
    for name, old in values.items():
        if old.ndim > 1 and old[0].numel() > 1:  # not the lengths, which may change in the last bit
            assert torch.equal(model.state_dict()[name][tuple(map(slice, old.shape))], old)
    assert list(reports.values())[-1].parameters_after == sum(p.numel() for p in model.parameters())
    model.train()(images)  # the power iterations find no other norm
    assert (model.eval()(images) - before).norm() <= 1e-3 * before.norm()
    shrink(model, "0", keep=range(8), images=images, fit=False)
    shrink(model, "2", keep=range(6), images=images, fit=False)
    assert {name: v.shape for name, v in model.state_dict().items()} == state
    assert (model(images) - before).norm() <= 1e-3 * before.norm()


@pytest.mark.parametrize("norm", NORMS)
def test_shrinking_fits_the_readers(norm):
    model, images = network(norm)
    before, plain = model(images).detach(), network(norm)[0]
    report = shrink(model, "2", 4, images)
    unfitted = shrink(plain, "2", keep=report.kept, images=images, fit=False)
    assert model[2].weight.shape == (4, 8, 3, 3) and model[6].weight.shape == (5, 4)
    measured = ((model(images[3::4]) - before[3::4]).norm() / before[3::4].norm()).item()
    assert report.error == pytest.approx(measured, rel=0.05) and report.error < unfitted.error
    if norm in SPECTRAL_NORMS and norm != "bound":
        for layer in (model[2], model[6]):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("norm", ["weight", "weight, hook", "spectral", "power"])
def test_the_optimizer_follows_and_training_goes_on(norm):
    model, images = network(norm)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step():
        optimizer.zero_grad()
        model.train()(images).square().mean().backward()
        optimizer.step()

    step()
    moments = [state["exp_avg"].clone() for state in optimizer.state.values()]
    grow(model, WIDE, optimizer=optimizer, example=images)
    assert all(p.grad is None for p in model.parameters())
    own = list(model.parameters())
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in own}
    kept = [optimizer.state[p]["exp_avg"] for p in own]
    for old, new, parameter in zip(moments, kept, own, strict=True):
        assert new.shape == parameter.shape
        assert torch.equal(new[tuple(slice(n) for n in old.shape)], old)
    step()
    assert all(p.grad is not None and p.isfinite().all() for p in own)


@pytest.mark.parametrize("norm", NORMS)
def test_looking_changes_no_bit_and_a_shape_is_built_again(norm):
    model, images = network(norm)
    state, kinds, own = deepcopy(model.state_dict()), [type(m) for m in model.modules()], list(model.named_parameters())
    trace(model.train(), images)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    assert [type(m) for m in model.modules()] == kinds
    assert all(a is b for (_, a), (_, b) in zip(own, model.named_parameters(), strict=True))
    grow(model, WIDE, example=images)
    fresh = network(norm)[0]
    resize(fresh, widths(model, images), images)
    fresh.load_state_dict(model.state_dict())
    assert torch.allclose(fresh.eval()(images), model.eval()(images), atol=1e-6)


def test_what_needs_a_factor_of_a_spectral_norm_stays():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.norm = spectral_norm(nn.Linear(4, 8), "exact"), nn.LayerNorm(8)
            self.up, self.down = nn.Linear(8, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.down(self.up(self.norm(self.embed(x.mean((2, 3))))).relu())

    found = trace(Block(), torch.zeros(2, 4, 2, 2))
    assert "layer norm" in found["embed"].reason and "embed.weight" in found["embed"].reason
    assert found["up"].editable


def test_the_average_of_the_weights_follows():
    model, images = network("weight")
    average = deepcopy(model)
    grow(model, WIDE, images=images, ema=average)
    assert torch.allclose(average(images), model(images), atol=1e-6)
    with plain_weights(model):
        assert isinstance(model[0].weight, nn.Parameter)


@pytest.mark.parametrize("norm", ["weight", "weight, hook"])
def test_a_weight_of_the_shape_of_its_lengths(norm):
    model = nn.Sequential(nn.Linear(3, 1), nn.ReLU(), NORMS[norm](nn.Linear(1, 4))).eval()
    optimizer, x = torch.optim.Adam(model.parameters()), torch.rand(8, 3)
    model(x).sum().backward()
    optimizer.step()
    before = model(x)
    grow(model, "0", 3, optimizer=optimizer, example=x)
    assert torch.allclose(model(x), before)
    model(x).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("norm", ["spectral", "power"])
def test_the_error_is_true_where_the_iterations_are_behind(norm):
    model, images = network(norm)
    with torch.no_grad():
        for weight in (model[0].parametrizations.weight.original, model[2].parametrizations.weight.original):
            weight[0] += 0.5
    before = model(images)
    report = shrink(model, "0", 5, images)
    measured = (model(images[3::4]) - before[3::4]).norm() / before[3::4].norm()
    assert report.error == pytest.approx(measured.item(), rel=1e-3)


@pytest.mark.parametrize("norm", ["weight", "weight, hook", "spectral", "exact"])
def test_the_memory_format_stays(norm):
    model, images = network(norm)
    model.to(memory_format=torch.channels_last)
    grow(model, WIDE, example=images)
    weights = [p for name, p in model.named_parameters() if p.ndim == 4 and p[0].numel() > 1]
    assert len(weights) == 2 and all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


@pytest.mark.parametrize("norm", ["weight", "spectral", "bound", "power"])
def test_nan_is_left_to_be_found(norm):
    model, images = network(norm)
    with torch.no_grad():
        next(p for p in model[0].parametrizations.weight.parameters() if p.ndim == 4 and p[0].numel() > 1)[0] = (
            torch.nan
        )
    state = deepcopy(model.state_dict())
    trace(model, images)
    assert all(torch.equal(v.nan_to_num(7), state[name].nan_to_num(7)) for name, v in model.state_dict().items())


@pytest.mark.parametrize("norm", ["weight", "spectral", "exact", "power"])
def test_two_layers_with_one_parametrisation(norm):
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.d = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
            for layer in (self.b, self.c):
                NORMS[norm](layer)
            self.c.parametrizations = self.b.parametrizations

        def forward(self, x):
            return self.d(self.c(self.b(self.a(x).relu()).relu()))

    model, x = Twins().eval(), torch.rand(8, 3)
    before = model(x)
    grow(model, "a", 12, example=x)
    assert model.c.parametrizations is model.b.parametrizations and model.c.weight.shape == (12, 12)
    assert torch.allclose(model(x), before, atol=1e-6)
    shrink(model, "a", keep=range(8), example=x)
    assert torch.allclose(model(x), before, atol=1e-6)
