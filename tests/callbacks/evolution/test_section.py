"""The section `evolve`: what it takes, and what is refused, all at once."""

import pytest

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
    ("text", "message"),
    [
        ("evolve: {min_width: 4}", "evolve.min_width: got 4 (whole number); allowed: the default with evolve.every"),
        ("evolve: {every: 1, policy: spectral}", "did you mean spectrum?"),
        ("evolve: {every: 1, factor: 1}", "evolve.factor: got 1 (whole number); allowed: a number > 1"),
        ("evolve: {every: 10}", "evolve.every: got '10 epochs' (text); allowed: shorter than the run of 10 epochs"),
        ("evolve: {every: 1, start: 100 %}", "evolve.start: got '100 %' (text); allowed: shorter than the run"),
        ("evolve: {every: 1, start: 50 %, stop: 40 %}", "evolve.stop: got '40 %' (text); allowed: after evolve.start"),
        ("evolve: {every: 5, stop: 3}", "evolve.stop: got '3 epochs' (text); allowed: at least evolve.every, 5 epochs"),
        ("evolve: {every: 1, max_width: 4}", "allowed: a whole number >= evolve.min_width, 8, or null"),
        ("evolve: {every: 1, shrink_below: 0.2}", "allowed: a number < evolve.grow_above, 0.15"),
        ("evolve: {every: 1, budget: 20k parameters}", "allowed: the default with evolve.policy: spectrum; did"),
        ("evolve: {every: 1, policy: budget}", "evolve.budget: got null (null); allowed: a cost with"),
        ("evolve: {every: 1, policy: budget, budget: 20k}", "evolve.budget: got '20k'; allowed: a number above 0"),
        ("evolve: {every: 1, policy: budget, budget: 20k param}", "did you mean 20 k parameters?"),
        ("evolve: {every: 1, policy: budget, budget: 0 flops}", "evolve.budget: got '0 flops'"),
        (
            "evolve: {every: 1, policy: budget, budget: 2 MiB, signal: weights}",
            "evolve.signal: got 'weights' (text); allowed: the default with evolve.policy: budget",
        ),
        (
            "evolve: {every: 1, where: [features.layer1]}\nmodel: {freeze: [features]}",
            "evolve.where: got ['features.layer1'] (list); allowed: a part that is trained; model.freeze has features",
        ),
        ("model: {widths: {head: 0}}", "model.widths: got {'head': 0} (section); allowed: names and whole numbers"),
        ("stages: [{model: {widths: {head: 3}}}]", "stages.1.model.widths: got {'head': 3} (section), but the weights"),
    ],
)  # fmt: skip
def test_one_fault(faults, text, message):
    found = faults(text)
    assert len(found) == 1 and message in found[0], found


def test_all_faults_at_once(faults):
    found = faults(
        "evolve: {every: 20, policy: budget, max_width: 2, grow_above: 0.5, where: [head]}\nmodel: {freeze: [head]}"
    )
    keys = [fault.split(":")[0] for fault in found]
    assert keys == [f"evolve.{key}" for key in ("grow_above", "every", "where", "max_width", "budget")]
