"""Stages: what each resolves to, how a key of one is typed, and every fault with the stage that it is in."""

import pytest
import yaml
from config_fixtures import saying, says

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
    ("overrides", "words"),
    [
        (["stages.2.optim.lrr=1"], "stages.2.optim.lrr 1 name lr"),
        (["stages.2.optim.lrr=1"], "stages.2.optim.lrr stages.2.optim.lr"),
        (["stages.1.train.lr=1"], "stages.1.train.lr 1 epochs batch_size"),
        (["stages.1.train.lr=1"], "stages.1.train.lr stages.1.optim.lr"),
        (["stages.1.modle.freeze=[]"], "stages.1.modle model stages stages.1.model"),
        (["stages.1.train.epochs=many"], "stages.1.train.epochs many whole >= 1"),
        (["stages.1.schedule.milestones=[3]"], "stages.1.schedule.milestones ['3 epochs'] schedule.name cosine"),
        (["stages.1.schedule.milestones=[3]"], "stages.1.schedule.milestones stages.1.schedule.name=multistep"),
        (["stages.2.head.degree=3"], "stages.2.head.degree svd_taylor"),
        (["stages.2.head.degree=3"], "stages.2.head.degree stages.2.head.degree=null"),
        # the same in every stage
        (["stages.1.run.seed=3"], "stages.1.run.seed 3 run.seed outside"),
        (["stages.2.data.name=folder"], "stages.2.data.name folder image_size transform workers"),
        (["stages.2.data.split_seed=1"], "stages.2.data.split_seed 1 image_size transform workers"),
        (["stages.2.model.backbone=resnet18"], "stages.2.model.backbone resnet18 freeze dropout"),
        (["stages.2.head.degree=null", "stages.2.head.degre=3"], "stages.2.head.degre 3"),
        (["stages.2.run.plugins=[x]"], "stages.2.run.plugins x run.plugins outside"),
        (["stages.2.head.dim=3"], "stages.2.head.dim 3 name side form precision"),
        (["stages.2.head.name=average"], "stages.2.head.name average outputs svd_pade covariance"),
        # places
        (["stages.3.train.epochs=1"], "stages.3.train.epochs stages.N.section.key 1 2"),
        (["stages.0.train.epochs=1"], "stages.0.train.epochs stages.N.section.key 1 2"),
        (["stages.one.train.epochs=1"], "stages.one.train.epochs stages.N.section.key 1 2"),
        (["stages.1.train=1"], "stages.1.train stages.N.section.key 1 2"),
        (["stages.1=1"], "stages.1 stages.N.section.key 1 2"),
        # without effect
        (["train.epochs=2"], "train.epochs train.epochs=2 1, 2 stages.1.train.epochs=2 stages.2.train.epochs=2"),
        (["optim.weight_decay=1"], "optim.weight_decay 2 stages.2.optim.weight_decay=1"),
        (["stages.2.train.ema=0.9", "train.ema=0.8"], "train.ema 2 stages.2.train.ema=0.8"),
        # the base
        (["optim.lrr=1"], "optim.lrr optim.lr"),
        (["head.name=svd_pad"], "head.name svd_pad svd_pade svd_pade"),
        (["schedule.warmup=4"], "stages.1.schedule.warmup 4 epochs shorter 3"),
    ],
)
def test_one_fault(faults, overrides, words):
    found = faults(TWO, *overrides)
    if overrides == ["schedule.warmup=4"]:  # stage 2 has its own, of which the override does not take notice
        assert says(found.pop(0), "schedule.warmup schedule.warmup=4 stages.2.schedule.warmup=4") and len(found) == 1
    assert len(found) == 1 and says(found[0], words), found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stages: 2", "stages 2 list sections {model:"),
        ("stages: {train: {epochs: 2}}", "stages {'train': {'epochs': 2}} list"),
        ("stages: [2]", "stages.1 2 mapping sections {train:"),
        ("stages: [{train: 2}]", "stages.1.train 2 section epochs"),
        ("stages: [{stages: []}]", "stages.1.stages no stages"),
        ("stage: []", "stage stages stages"),
        ("stages: [{plugins: [x]}]", "stages.1.plugins plugins outside stages"),
        ("stages: [{train: {epochs: 1, epochs: 2}}]", "stages.train.epochs line 1 line 1 once"),
    ],
)
def test_one_fault_in_a_file(faults, text, words):
    found = faults(text)
    assert len(found) == 1 and says(found[0], words), found


def test_a_key_of_a_stage_without_stages(faults):
    (fault,) = faults("", "stages.1.optim.lr=1")
    assert says(fault, "stages.1.optim.lr without stages.N.")


def test_all_faults_at_once_each_with_its_stage(faults):
    found = faults(TWO, "optim.lr=fast", "stages.1.train.epochs=0", "stages.2.optim.clip=x", "stages.2.run.amp=bf16")
    assert [fault.partition(": ")[0] for fault in found] == [
        "optim.lr",
        "stages.1.train.epochs",
        "stages.2.run.amp",
        "stages.2.optim.clip",
    ]


def test_from_dict_says_it_too():
    with pytest.raises(ConfigError, match=saying("stages.1.optim.lr 'a' number > 0")):
        from_dict({"stages": [{"optim": {"lr": "a"}}]})


def test_schema_knows_what_a_stage_may_set():
    settable = json_schema()["properties"]["stages"]["items"]["properties"]
    assert set(settable) == set(sections(composed(Config))) - {"run"}
    assert set(settable["model"]["properties"]) == {"freeze", "dropout"}
    assert "degree" in settable["head"]["properties"] and "dim" not in settable["head"]["properties"]
