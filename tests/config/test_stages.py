"""Stages: what each resolves to, how a key of one is typed, and every fault with the stage that it is in."""

import pytest
import yaml

from gcp.config import dump, from_dict, json_schema, load, stage_configs
from gcp.config.schema import Config, composed, sections
from gcp.errors import ConfigError

TWO = """
model: {backbone: resnet8_cifar}
optim: {lr: 0.2}
stages:
  - {model: {freeze: [features]}, train: {epochs: 3, batch_size: 40}}
  - {train: {epochs: 5}, optim: {weight_decay: 0}, schedule: {warmup: 10 %}}
"""


def test_a_stage_is_the_rest_of_the_file_with_its_own_values(write):
    config = load(write(TWO))
    first, second = stage_configs(config)
    assert (first.model.freeze, first.train.epochs, first.train.batch_size) == (("features",), 3, 40)
    assert (second.model.freeze, second.train.epochs, second.train.batch_size) == ((), 5, 64)
    assert (first.optim.lr, second.optim.lr, second.optim.weight_decay) == (0.2, 0.2, 0)
    assert first.stages == second.stages == ()
    assert config.train.epochs == 10, "the base itself"


@pytest.mark.parametrize("stages", ["", "stages: []", "stages:"])
def test_no_stages(write, stages):
    config = load(write(f"optim: {{lr: 1}}\n{stages}"))
    assert config.stages == () == stage_configs(config)
    assert "stages" not in dump(config)


def test_round_trip(write):
    config = load(write(TWO))
    again = load(write(dump(config), "again.yaml"))
    assert again == config and from_dict(config.plain()) == config
    assert yaml.safe_load(dump(config)) == config.plain()


def test_sections_whose_keys_are_commented_out(write):
    (stage,) = stage_configs(load(write("stages:\n  - model:\n    train: {epochs: 2}")))
    assert stage.train.epochs == 2


def test_overrides(write):
    config = load(
        write(TWO), ["stages.1.train.epochs=7", "stages.2.model.dropout=0.5", "optim.lr=3", "stages.2.train.ema=0.9"]
    )
    first, second = stage_configs(config)
    assert (first.train.epochs, first.optim.lr, second.optim.lr) == (7, 3, 3)
    assert (second.model.dropout, first.model.dropout, second.train.ema, second.train.epochs) == (0.5, None, 0.9, 5)
    assert load(write(TWO), ["stages=[]"]).stages == ()


def test_a_child_replaces_the_stages_of_its_base(write):
    write(TWO, "base.yaml")
    config = load(write("extends: base.yaml\nstages: [{train: {epochs: 2}}]"))
    assert [stage.train.epochs for stage in stage_configs(config)] == [2]


def test_head_options_are_inherited_and_removed(write):
    text = "head: {name: svd_taylor, degree: 5}\nstages: [{train: {epochs: 1}}, {head: {name: svd_pade, degree: null}}]"
    first, second = stage_configs(load(write(text)))
    assert first.head.options == {"degree": 5} and (second.head.name, second.head.options) == ("svd_pade", {})


def test_what_does_not_fit_the_base_may_fit_each_stage(faults):
    """The base is never run."""
    stages = "stages: [{train: {epochs: 30}}, {train: {epochs: 40}}]"
    assert faults(f"schedule: {{name: cosine, warmup: 20}}\n{stages}") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stages.2.optim.lrr=1"], "stages.2.optim.lrr: unknown key, got 1 (whole number); allowed: name, lr, "),
        (["stages.2.optim.lrr=1"], "did you mean stages.2.optim.lr?"),
        (["stages.1.train.lr=1"], "stages.1.train.lr: unknown key, got 1 (whole number); allowed: epochs, batch_size"),
        (["stages.1.train.lr=1"], "did you mean stages.1.optim.lr?"),
        (["stages.1.modle.freeze=[]"], "stages.1.modle: unknown key"),
        (["stages.1.train.epochs=many"], "stages.1.train.epochs: got 'many' (text); allowed: a whole number >= 1"),
        (["stages.1.schedule.milestones=[3]"], "stages.1.schedule.milestones: got ['3 epochs'] (list); allowed: the"),
        (["stages.1.schedule.milestones=[3]"], "did you mean stages.1.schedule.name=multistep?"),
        (["stages.2.head.degree=3"], "stages.2.head.degree: an option of svd_taylor, "),
        (["stages.2.head.degree=3"], "remove it with stages.2.head.degree=null"),
        # the same in every stage
        (["stages.1.run.seed=3"], "stages.1.run.seed: got 3 (whole number), but a run has one place"),
        (
            ["stages.2.data.name=folder"],
            "stages.2.data.name: got 'folder' (text), but the images held out from training",
        ),
        (["stages.2.data.split_seed=1"], "allowed in a stage: image_size, transform, workers"),
        (
            ["stages.2.model.backbone=resnet18"],
            "but the weights of the stage before have to fit; allowed in a stage: freeze",
        ),
        (["stages.2.head.dim=3"], "stages.2.head.dim: got 3 (whole number), but the weights of the stage before"),
        (
            ["stages.2.head.name=average"],
            "stages.2.head.name: got 'average' (text); allowed: a head with the outputs and",
        ),
        # places
        (
            ["stages.3.train.epochs=1"],
            "stages.3.train.epochs: no such place; allowed: stages.N.section.key with N from 1 to 2",
        ),
        (["stages.0.train.epochs=1"], "no such place"),
        (["stages.one.train.epochs=1"], "no such place"),
        (["stages.1.train=1"], "no such place"),
        (["stages.1=1"], "no such place"),
        # without effect
        (
            ["train.epochs=2"],
            "train.epochs: override 'train.epochs=2' does not reach every stage: stages 1, 2 set train.epochs; type "
            "stages.1.train.epochs=2 stages.2.train.epochs=2",
        ),
        (["optim.weight_decay=1"], "stage 2 sets optim.weight_decay; type stages.2.optim.weight_decay=1"),
        (["stages.2.train.ema=0.9", "train.ema=0.8"], "stage 2 sets train.ema; type stages.2.train.ema=0.8"),
        # the base
        (["optim.lrr=1"], "optim.lrr: unknown key"),
        (["head.name=svd_pad"], "head.name: got 'svd_pad'"),
        (["schedule.warmup=4"], "stages.1.schedule.warmup: got '4 epochs' (text); allowed: shorter than the run of 3"),
    ],
)
def test_one_fault(faults, words, message):
    found = faults(TWO, *words)
    if words == ["schedule.warmup=4"]:  # stage 2 has its own, of which the override does not take notice
        assert found.pop(0).startswith("schedule.warmup: override") and len(found) == 1
    assert len(found) == 1 and message in found[0], found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: 2", "stages: got 2 (whole number); allowed: a list of mappings of sections, such as [{"),
        ("stages: {train: {epochs: 2}}", "stages: got {'train': {'epochs': 2}} (section); allowed: a list"),
        ("stages: [2]", "stages.1: got 2 (whole number); allowed: a mapping of sections"),
        ("stages: [{train: 2}]", "stages.1.train: got 2 (whole number); allowed: a section with the keys epochs"),
        ("stages: [{stages: []}]", "stages.1.stages: a stage has no stages of its own"),
        ("stage: []", "did you mean stages?"),
        ("stages: [{train: {epochs: 1, epochs: 2}}]", "stages.train.epochs: given twice"),
    ],
)
def test_one_fault_in_a_file(faults, text, message):
    found = faults(text)
    assert len(found) == 1 and message in found[0], found


def test_a_key_of_a_stage_without_stages(faults):
    assert faults("", "stages.1.optim.lr=1") == [
        "stages.1.optim.lr: the configuration has no stages; type the key without stages.N."
    ]


def test_all_faults_at_once_each_with_its_stage(faults):
    found = faults(TWO, "optim.lr=fast", "stages.1.train.epochs=0", "stages.2.optim.clip=x", "stages.2.run.amp=bf16")
    assert [fault.partition(": ")[0] for fault in found] == [
        "optim.lr",
        "stages.1.train.epochs",
        "stages.2.run.amp",
        "stages.2.optim.clip",
    ]


def test_from_dict_says_it_too():
    with pytest.raises(ConfigError, match=r"stages\.1\.optim\.lr: got 'a'"):
        from_dict({"stages": [{"optim": {"lr": "a"}}]})


def test_schema_knows_what_a_stage_may_set():
    settable = json_schema()["properties"]["stages"]["items"]["properties"]
    assert set(settable) == set(sections(composed(Config))) - {"run"}
    assert set(settable["model"]["properties"]) == {"freeze", "dropout"}
    assert "degree" in settable["head"]["properties"] and "dim" not in settable["head"]["properties"]
