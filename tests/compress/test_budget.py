"""The spread of a budget: against all choices of small layers, and its bounds."""

import time
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from gcp.compress import decompose
from gcp.compress.basis import basis
from gcp.compress.factored import create_factored
from gcp.compress.ranks import Candidates, candidates, spread


def layers(seed, count=3, ranks=6):
    generator = np.random.default_rng(seed)
    made = {}
    for number in range(count):
        step = int(generator.integers(2, 9))
        errors = np.sort(generator.random(ranks))[::-1] * generator.random()
        sizes = step * np.arange(1, ranks + 1)
        made[f"layer{number}"] = Candidates([(r,) for r in range(1, ranks + 1)], sizes, errors, step * (ranks + 1))
    return made


def total(layers, choice):
    size = sum(a.dense if choice[n] is None else a.sizes[choice[n]] for n, a in layers.items())
    return size, sum(0 if choice[n] is None else a.errors[choice[n]] for n, a in layers.items())


def every(layers):
    return [
        dict(zip(layers, c, strict=True)) for c in product(*([*range(len(a.ranks)), None] for a in layers.values()))
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_best_choice_within_a_budget_is_found(seed):
    made = layers(seed)
    choices = [total(made, choice) for choice in every(made)]
    least, most = min(size for size, _ in choices), max(size for size, _ in choices)
    for budget in np.linspace(least, most, 7):
        found = spread(made, budget=budget)
        size, error = total(made, found.choice)
        assert size <= budget and found.gap == 0
        assert error == pytest.approx(min(error for size, error in choices if size <= budget), abs=1e-12)
    assert total(made, spread(made, budget=most).choice)[1] == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_smallest_choice_of_an_error_is_found(seed):
    made = layers(seed)
    choices = [total(made, choice) for choice in every(made)]
    for bound in (0.0, 0.1, 0.5, 1.0, 10.0):
        found = spread(made, error=bound)
        size, error = total(made, found.choice)
        assert error <= bound and found.gap == 0
        assert size == min(size for size, error in choices if error <= bound)


def test_a_budget_that_no_chain_of_gains_finds():
    made = {
        "a": Candidates([(1,), (2,)], np.array([4, 19]), np.array([0.72, 0.06]), 20),
        "b": Candidates([(1,), (2,)], np.array([8, 15]), np.array([0.64, 0.04]), 20),
    }
    assert total(made, spread(made, budget=34).choice) == (34, pytest.approx(0.10))


def test_many_layers_are_solved_in_seconds_with_a_stated_gap(monkeypatch):
    """Sixty layers of up to 400 ranks: the gap that is stated holds against the linear relaxation."""
    generator = np.random.default_rng(0)
    made = {}
    for number in range(60):
        ranks, step = int(generator.integers(30, 400)), int(generator.integers(500, 4000))
        energies = np.sort(generator.random(ranks) ** 6)[::-1]
        errors = 1 - np.cumsum(energies) / energies.sum() * 0.999
        sizes = step * np.arange(1, ranks + 1)
        made[f"layer{number}"] = Candidates([(r,) for r in range(1, ranks + 1)], sizes, errors, step * (ranks + 1))
    budget = 0.3 * sum(layer.dense for layer in made.values())
    start = time.perf_counter()
    found = spread(made, budget=budget)
    assert time.perf_counter() - start < 30
    size, error = total(made, found.choice)
    assert size <= budget and found.gap <= 1e-3 * error
    monkeypatch.setattr("gcp.compress.ranks.STATES", 3)
    rough = spread(made, budget=budget)
    assert total(made, rough.choice)[1] - rough.gap <= error + 1e-12  # what is stated is true


def test_exactly_low_rank_layers_get_their_rank_and_no_more():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 40)).double()
    model[0].weight.data = (torch.randn(40, 3) @ torch.randn(3, 40)).double()
    _, report = decompose(model, params=0.9)
    assert report.rows[0].rank == "3" and report.rows[0].measured < 1e-7
    assert report.parameters_after <= 0.9 * report.parameters


@pytest.mark.parametrize("share", [0.15, 0.3, 0.5, 0.8])
def test_share_of_parameters_is_used(share):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(8, 32, 3), nn.Conv2d(32, 16, 1), nn.Flatten(), nn.Linear(144, 50), nn.Linear(50, 50)
    )
    _, report = decompose(model, params=share)
    assert 0.95 * share * report.parameters < report.parameters_after <= share * report.parameters


def test_error_target_bounds_the_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 30))
    for bound in (0.9, 0.5, 0.2):
        _, report = decompose(model, error=bound, data=torch.randn(3000, 40))
        assert sum(row.measured**2 for row in report.factored) ** 0.5 <= bound * 1.01


def test_tucker_is_taken_where_both_sides_are_low_rank():
    torch.manual_seed(0)
    core = torch.randn(4, 4, 3, 3, dtype=torch.float64)
    conv = nn.Conv2d(24, 24, 3, bias=False, dtype=torch.float64)
    conv.weight.data = torch.einsum("os,srhw,ri->oihw", torch.randn(24, 4).double(), core, torch.randn(4, 24).double())
    new, report = decompose(conv, energy=1 - 1e-12)
    assert report.rows[0].rank == "4x4" and report.rows[0].measured < 1e-6
    assert report.rows[0].parameters_after == 4 * 24 + 9 * 16 + 4 * 24
    x = torch.randn(2, 24, 7, 7, dtype=torch.float64)
    torch.testing.assert_close(new(x), conv(x), atol=1e-6, rtol=1e-6)


def test_estimates_of_candidates_against_the_weights_they_give():
    """Of Tucker-2 the estimate is the sum of both parts, an upper bound (De Lathauwer et al. 2000, property 10)."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, 3, dtype=torch.float64)
    own = basis(conv, "svd")
    found = candidates(own)
    assert {len(ranks) for ranks in found.ranks} == {1, 2} and (np.diff(found.sizes) >= 0).all()
    for ranks, size, error in zip(found.ranks, found.sizes, found.errors, strict=True):
        new = create_factored(conv, ranks)
        own.fill(new)
        actual = ((new.weight - conv.weight).norm() / conv.weight.norm()).item() ** 2
        assert size == sum(p.numel() for p in new.parameters()) - 8
        assert actual <= error + 1e-12
        if len(ranks) == 1:
            assert actual == pytest.approx(error, abs=1e-12)
