"""The section `evolve`: what it takes, and what is refused, all at once."""

import pytest
from config_fixtures import says

from gcp.config import Duration, dump, from_dict, load


def test_off_by_default(write):
    config = load(write(""))
    assert config.evolve.every is None and config.model.widths == {}
    assert config.plain()["evolve"] == {"every": None}
    assert load(write("evolve: {every: null}")) == config


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("evolve: {every: 2}", Duration(2)),
        ("evolve: {every: 50 steps, start: 100 steps, stop: 500 steps}", Duration(50, "steps")),
        ("evolve: {every: 5 %, where: [head, 'features.layer3*'], max_width: 64, factor: 2}", Duration(5, "percent")),
        ("evolve: {every: 1, policy: budget, budget: 12.5k parameters}", Duration(1)),
        ("evolve: {every: 1, policy: budget, budget: 25 % flops, min_width: 1}", Duration(1)),
        ("evolve: {every: 1, signal: weights, shrink_below: 0, grow_above: 0.5, patience: 0}", Duration(1)),
        ("evolve: {every: 1}\nmodel: {freeze: [features]}", Duration(1)),
    ],
)
def test_what_it_takes(write, faults, text, every):
    assert faults(text) == []
    config = load(write(text))
    assert config.evolve.every == every
    assert load(write(dump(config), "again.yaml")) == config == from_dict(config.plain())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("evolve: {min_width: 4}", "evolve.min_width 4 default evolve.every null evolve.every=DURATION"),
        ("evolve: {every: 1, policy: spectral}", "evolve.policy spectral spectrum budget spectrum"),
        ("evolve: {every: 1, factor: 1}", "evolve.factor 1 number number > 1"),
        ("evolve: {every: 10}", "evolve.every 10 epochs shorter 10 epochs"),
        ("evolve: {every: 1, start: 100 %}", "evolve.start 100 % shorter 10 epochs"),
        ("evolve: {every: 1, start: 50 %, stop: 40 %}", "evolve.stop 40 % after evolve.start 50 %"),
        ("evolve: {every: 5, stop: 3}", "evolve.stop 3 epochs evolve.every 5 epochs"),
        ("evolve: {every: 1, max_width: 4}", "evolve.max_width 4 whole whole >= evolve.min_width 8 null"),
        ("evolve: {every: 1, shrink_below: 0.2}", "evolve.shrink_below 0.2 number number < evolve.grow_above 0.15"),
        (
            "evolve: {every: 1, budget: 20k parameters}",
            "evolve.budget 20k parameters default evolve.policy spectrum evolve.policy=budget",
        ),
        ("evolve: {every: 1, policy: budget}", "evolve.budget null null cost evolve.policy budget parameters flops"),
        ("evolve: {every: 1, policy: budget, budget: 20k}", "evolve.budget 20k number above 0 parameters flops MiB"),
        ("evolve: {every: 1, policy: budget, budget: 20k param}", "evolve.budget 20k param 20 k parameters"),
        ("evolve: {every: 1, policy: budget, budget: 0 flops}", "evolve.budget 0 flops number above 0"),
        (
            "evolve: {every: 1, policy: budget, budget: 2 MiB, signal: weights}",
            "evolve.signal weights default evolve.policy budget evolve.policy=spectrum",
        ),
        (
            "evolve: {every: 1, where: [features.layer1]}\nmodel: {freeze: [features]}",
            "evolve.where ['features.layer1'] trained model.freeze features",
        ),
        ("model: {widths: {head: 0}}", "model.widths {'head': 0} names whole >= 1"),
        ("stages: [{model: {widths: {head: 3}}}]", "stages.1.model.widths {'head': 3} freeze dropout"),
    ],
)
def test_one_fault(faults, text, words):
    found = faults(text)
    assert len(found) == 1 and says(found[0], words), found


def test_all_faults_at_once(faults):
    found = faults(
        "evolve: {every: 20, policy: budget, max_width: 2, grow_above: 0.5, where: [head]}\nmodel: {freeze: [head]}"
    )
    keys = [fault.split(":")[0] for fault in found]
    assert keys == [f"evolve.{key}" for key in ("grow_above", "every", "where", "max_width", "budget")]
