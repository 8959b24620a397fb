import math

import pytest
import torch

from gcp.engine.optimizer import SCHEDULES, learning_rate_factor
from gcp.errors import OptionError, UnknownNameError


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "constant"}, {0: 1, 50: 1, 100: 1}),
        ({"name": "step", "every": 10}, {0: 1, 9: 1, 10: 0.1, 19: 0.1, 20: 0.01, 35: 1e-3}),
        ({"name": "step", "every": 1, "gamma": 0.5}, {0: 1, 1: 0.5, 4: 1 / 16}),
        ({"name": "multistep", "milestones": (30, 60)}, {0: 1, 29: 1, 30: 0.1, 59: 0.1, 60: 0.01, 99: 0.01}),
        ({"name": "multistep", "milestones": (60, 30), "gamma": 0.2}, {29: 1, 45: 0.2, 60: 0.04}),
        ({"name": "multistep"}, {0: 1, 99: 1}),
        ({"name": "cosine"}, {0: 1, 25: (1 + math.sqrt(0.5)) / 2, 50: 0.5, 75: (1 - math.sqrt(0.5)) / 2, 100: 0}),
        ({"name": "cosine", "min_factor": 0.2}, {0: 1, 50: 0.6, 100: 0.2, 250: 0.2}),
        ({"name": "onecycle"}, {0: 1 / 25, 29: 1, 64: (1 + 4e-6) / 2, 99: 4e-6, 130: 4e-6}),
    ],
)
def test_values_at_known_steps(options, expected):
    got = {step: learning_rate_factor(step=step, total=100, **options) for step in expected}
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_warmup_is_linear_and_ends_at_the_plain_schedule():
    rates = [learning_rate_factor("constant", step, 100, warmup=4) for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_cosine_begins_after_the_warmup():
    def rate(step):
        return learning_rate_factor("cosine", step, 110, warmup=10, min_factor=0.1)

    assert [rate(0), rate(9)] == pytest.approx([1 / 11, 10 / 11])  # the least factor does not lift the warm-up
    assert [rate(10), rate(60), rate(110)] == pytest.approx([1, 0.55, 0.1])


@pytest.mark.parametrize(("name", "plain"), [("step", 0.1), ("multistep", 0.1)])
def test_warmup_multiplies_a_decay_that_falls_into_it(name, plain):
    got = learning_rate_factor(name, 5, 100, warmup=9, every=5, milestones=(5,))
    assert got == pytest.approx(plain * 6 / 10)


def test_least_factor_holds_for_every_schedule_at_every_step():
    for name in SCHEDULES:
        rates = [learning_rate_factor(name, t, 100, every=10, milestones=(20, 40), min_factor=0.05) for t in range(130)]
        assert min(rates) >= 0.05 and max(rates) <= 1, name


@pytest.mark.parametrize("total", [*range(1, 12), 40, 101])
def test_one_cycle_is_that_of_torch(total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=total, cycle_momentum=False)
    for step in range(total):
        assert learning_rate_factor("onecycle", step, total) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9), step
        optimizer.step()
        if step < total - 1:
            theirs.step()


@pytest.mark.parametrize("total", [1, 2])
def test_shortest_runs_have_a_rate(total):
    for name in SCHEDULES:
        for step in range(total):
            assert 0 < learning_rate_factor(name, step, total, warmup=total, every=1) <= 1


def test_unknown_name_and_missing_interval():
    with pytest.raises(UnknownNameError, match=r"'cosin'.*Did you mean 'cosine'\?.*multistep"):
        learning_rate_factor("cosin", 0, 10)
    with pytest.raises(OptionError, match=r"'step' .*every >= 1 .*\b0\b.*schedule\.every"):
        learning_rate_factor("step", 0, 10)
