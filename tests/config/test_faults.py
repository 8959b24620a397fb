"""Every kind of fault, alone and together: where, what was given, what is allowed, what to type."""

import re

import pytest
from config_fixtures import saying, says

from gcp.config import from_dict, load
from gcp.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "words"),
    [
        # types
        ("optim.lr=fast", "optim.lr fast number > 0"),
        ("optim.lr='0.1'", "optim.lr '0.1' number > 0 0.1 quotes"),
        ("optim.lr=true", "optim.lr true number > 0"),
        ("optim.lr=null", "optim.lr null null number > 0"),
        ("optim.lr=.nan", "optim.lr .nan number number > 0"),
        ("optim.lr=.inf", "optim.lr .inf number number > 0"),
        ("optim.lr={a: 1}", "optim.lr {'a': 1} number > 0"),
        ("optim.lr.x=1", "optim.lr {'x': 1} number > 0"),
        ("train.epochs=1.5", "train.epochs 1.5 whole >= 1"),
        ("train.epochs=1e1", "train.epochs 10.0 whole >= 1 10"),
        ("train.epochs=010", "train.epochs '010' whole >= 1 010 quotes"),
        ("run.compile=yes", "run.compile yes true false true"),
        ("run.compile=0", "run.compile 0 true false false"),
        ("run.name=5", "run.name 5 letters digits null '5' quotes"),
        ("run.name=a/b", "run.name a/b letters digits null"),
        ("run.name=../b", "run.name ../b letters digits null"),
        ("run.name=2024-01-01:x", "run.name 2024-01-01:x letters digits null"),
        ("model.hidden=1024", "model.hidden 1024 list whole >= 1 null [1024]"),
        ("model.hidden=[10, x]", "model.hidden [10, 'x'] list list whole >= 1 null"),
        ("model.freeze=features", "model.freeze features list [features]"),
        # names and choices
        ("run.amp=yes", "run.amp yes none bf16 fp16"),
        ("run.amp=null", "run.amp null null none bf16 fp16 none"),
        ("run.amp=false", "run.amp false none bf16 fp16 none"),
        ("run.amp=bf61", "run.amp bf61 none bf16 fp16 bf16"),
        ("run.device=gpu", "run.device gpu auto cpu cuda cuda:N"),
        ("model.last_stride=3", "model.last_stride 3 1 2 null"),
        ("head.side=chanel", "head.side chanel auto channel sample channel"),
        ("head.precision=float16", "head.precision float16 float32 float64 null float64"),
        ("schedule.name=cosin", "schedule.name cosin constant step multistep cosine onecycle cosine"),
        ("data.image_size=atuo", "data.image_size atuo whole >= 1 auto auto"),
        # a number or a list of them
        ("data.mean=0.5,0.5,0.5", "data.mean 0.5,0.5,0.5 number list null [0.5, 0.5, 0.5]"),
        ("data.mean='0.5'", "data.mean 0.5 number list null [0.5]"),
        ("data.std=0", "data.std 0 number > 0 list null"),
        # ranges
        ("optim.lr=0", "optim.lr 0 number number > 0"),
        ("optim.momentum=1", "optim.momentum 1 number number >= 0 < 1"),
        ("train.ema=1.0", "train.ema 1.0 number number > 0 < 1 null"),
        ("train.batch_size=0", "train.batch_size 0 whole whole >= 1"),
        ("run.seed=-1", "run.seed -1 whole whole >= 0 < 4294967296"),
        ("data.workers=-1", "data.workers -1 whole whole >= 0 auto"),
        # durations
        ("schedule.warmup=5 epocs", "schedule.warmup 5 epocs 10 epochs 500 steps 2 epochs 30 % 5 epochs"),
        ("schedule.warmup=-1", "schedule.warmup -1 10 epochs 500 steps"),
        ("schedule.milestones=[1, soon]", "schedule.milestones [1, 'soon'] list list 10 epochs 500 steps"),
        ("evaluate.every=0", "evaluate.every 0 10 epochs 500 steps"),
        ("evaluate.every=10 minutes", "evaluate.every 10 minutes 10 epochs 500 steps"),
        ("checkpoint.every=10 minuts", "checkpoint.every 10 minuts 30 % 10 minutes 10 minutes"),
        # unknown keys
        ("lr=0.1", "lr 0.1 run data model head optim schedule train evaluate checkpoint"),
        ("lr=0.1", "lr stages optim.lr"),
        ("model.lr=0.1", "model.lr 0.1 backbone pretrained freeze hidden dropout widths optim.lr"),
        ("optim.wieght_decay=1", "optim.wieght_decay 1 name lr momentum"),
        ("optim.wieght_decay=1", "optim.wieght_decay optim.weight_decay"),
        ("batch_size=8", "batch_size train.batch_size evaluate.batch_size"),
        ("train-epochs=8", "train-epochs train.epochs"),
        ("headdim=8", "headdim head.dim"),
        ("train.batchSize=8", "train.batchSize train.batch_size"),
        ("optimiser.lr=1", "optimiser {'lr': 1} run data model"),
        ("optimiser.lr=1", "optimiser stages optim"),
        ("extends=base.yaml", "extends base.yaml run data"),
        ("head=svd_taylor", "head head=svd_taylor head.name=svd_taylor"),
        ("optim=null", "optim optim=null keys"),
        # overrides that are none
        ("optim.lr", "optim.lr = key.path=value optim.lr=0.01"),
        ("=1", "=1 key.path=value"),
        ("optim..lr=1", "optim..lr=1 key.path=value"),
        ("optim.lr=", "optim.lr= optim.lr=null"),
        ("optim.lr=[1", "optim.lr=[1 YAML ',' ']'"),
        # registries
        ("head.name=svd_pad", "head.name svd_pad average"),
        ("head.name=svd_pad", "head.name --list heads svd_pade"),
        ("data.name=digit", "data.name digit aircraft folder"),
        ("data.name=digit", "data.name --list datasets digits"),
        ("optim.name=adamm", "optim.name adamm timm.optim.list_optimizers()"),
        ("optim.name=adamm", "optim.name timm.optim.list_optimizers() sgd adamw lamb lion adam"),
        ("model.backbone=resnt50", "model.backbone resnt50 resnet50"),
        ("data.transform=defaut", "data.transform defaut default none data.name digits default"),
        ("data.image_size=4", "data.image_size 4 whole whole >= 8 data.name digits"),
        ("data.root=~/digits", "data.root ~/digits null data.name digits"),
        ("data.name=folder", "data.root null null folder data.name folder"),
        # the head's own options
        ("head.degree=5", "head.degree svd_taylor"),
        ("head.degree=5", "head.degree svd_pade head.degree=null"),
        ("head.nme=x", "head.nme x name dim side form precision reduction"),
        ("head.nme=x", "head.nme head.name"),
        ("head.nothing_like_it=null", "head.nothing_like_it null null name"),
        # keys that must fit each other
        ("run.amp=fp16 run.device=cpu", "run.amp fp16 none bf16 run.device cpu bf16"),
        ("head.form=published head.side=sample", "head.side sample channel auto head.form published"),
        ("schedule.milestones=[3]", "schedule.milestones ['3 epochs'] schedule.name cosine schedule.name=multistep"),
        ("schedule.name=multistep", "schedule.milestones [] one schedule.name multistep"),
        ("schedule.name=multistep schedule.milestones=[5, 3]", "schedule.milestones ['5 epochs', '3 epochs'] increase"),
        ("schedule.every=3", "schedule.every 3 epochs schedule.name cosine schedule.name=step"),
        ("schedule.warmup=10", "schedule.warmup 10 epochs shorter 10 epochs"),
        ("schedule.warmup=100 %", "schedule.warmup 100 % shorter 10 epochs"),
        ("schedule.name=onecycle schedule.warmup=1", "schedule.warmup 1 epochs 0 schedule.name onecycle"),
        ("schedule.min_lr=1", "schedule.min_lr 1.0 number number <= optim.lr 0.1"),
        ("optim.nesterov=true optim.momentum=0", "optim.momentum 0 number number > 0 optim.nesterov true"),
        ("optim.nesterov=true optim.name=adamw", "optim.nesterov true false optim.name adamw"),
        ("data.name=hfds/", "data.name hfds/ hfds/* hfds/NAME"),
        ("head.name=average head.side=channel", "head.side average side channel none"),
        ("head.name=newton_schulz head.form=published", "head.form newton_schulz form published side precision"),
        ("head.reduction=pool", "head.reduction pool conv orthogonal"),
        ("head.name=mpa_lyapunov head.backward=lyapunow", "head.backward lyapunow lyapunov iterations lyapunov"),
        (
            "model.freeze=[feature.layer1]",
            "model.freeze feature.layer1 features head classifier features.layer1 features.layer1",
        ),
        ("model.freeze=[features.]", "model.freeze features. features head classifier"),
        ("model.freeze=[head, classifier, features]", "model.freeze one train"),
    ],
)
def test_one_fault(faults, override, words):
    found = faults("", *re.split(r" (?=\w+\.\w+=)", override))
    assert len(found) == 1 and says(found[0], words), found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim: {lr: 1e-1, lr: 2}", "optim.lr line 1 line 1 once"),
        ("optim:\n  lr: 1\ntrain: {}\noptim:\n  lr: 2", "optim line 1 line 4 once"),
        ("head: svd_pade", "head svd_pade section name dim side form precision reduction head.name=svd_pade"),
        ("optim: [1]", "optim [1] section name lr momentum"),
        ("5: {lr: 1}", "5 {'lr': 1} run data model"),
        ("optim: {5: 1}", "optim.5 1 name lr momentum"),
        ("optim: {true: 1}", "optim.true 1 name lr momentum"),
        ("head: {name: svd_taylor, degree: many}", "head.degree many"),
        ("head: {name: svd_taylor, degree: -1}", "head.degree -1"),
        ("head: {name: svd_taylor, dgree: 3}", "head.dgree name dim side form precision svd_taylor degree head.degree"),
    ],
)
def test_one_fault_in_a_file(faults, text, words):
    found = faults(text)
    assert len(found) == 1 and says(found[0], words), found


def test_two_faults_at_once(write):
    with pytest.raises(ConfigError) as error:
        load(write("optim: {lr: fast}\nhead: {name: svd_pad}"))
    first, second = error.value.faults
    assert says(str(error.value).splitlines()[0], "2 faults")
    assert says(first, "head.name svd_pad svd_pade svd_pade") and says(second, "optim.lr fast number > 0")


def test_faults_of_every_kind_at_once(write):
    path = write(
        "lr: 1\noptim: {lr: fast, clip: 1, clip: 2}\nmodel: {backbone: resnt18}\n"
        "head: {name: svd_taylor, steps: 3, degree: -1}\nschedule: {warmup: 20}"
    )
    with pytest.raises(ConfigError) as error:
        load(path, ["train.batch_size=0", "foo", "data.root=x"])
    override, *others = error.value.faults
    assert says(override, "foo = key.path=value")
    assert [fault.split(":")[0] for fault in others] == [
        "lr",
        "data.root",
        "model.backbone",
        "head.steps",
        "head.degree",
        "optim.clip",
        "optim.lr",
        "schedule.warmup",
        "train.batch_size",
    ]
    assert says(str(error.value).splitlines()[0], f"10 faults {path} 3 overrides")


def test_conclusions_from_a_faulty_key_are_not_reported(faults):
    assert len(faults("schedule: {name: 5, milestones: [3]}")) == 1
    assert len(faults("head: {name: 5, degree: 7}")) == 1
    assert len(faults("head: {name: svd_tailor, degree: 7}")) == 1
    assert len(faults("train: {epochs: many}\nschedule: {warmup: 20}")) == 1
    assert len(faults("data: {name: foldr}")) == 1


def test_faults_of_overrides_beside_an_unreadable_file(write):
    with pytest.raises(ConfigError) as error:
        load(write("a: ["), ["optim.lr=fast", "schedule.milestones=[3]"])
    unreadable, override = error.value.faults
    assert says(unreadable, "run.yaml YAML") and says(override, "optim.lr fast number > 0")


def test_from_dict_names_its_source():
    with pytest.raises(ConfigError, match=saying("the checkpoint 'x'")) as error:
        from_dict({"optim": {"lr": "a"}}, source="the checkpoint 'x'")
    assert len(error.value.faults) == 1 and says(error.value.faults[0], "optim.lr 'a' number > 0")


def test_long_values_are_shortened(faults):
    (fault,) = faults(f"optim: {{lr: [{', '.join('1' * 400)}]}}")
    assert len(fault) < 200


def test_options_of_a_rule_that_a_head_leaves_to_choose(write):
    words = ["head.name=gaussian", "head.rule=taylor", "head.degree=5"]
    assert load(write(""), words).head.options["degree"] == 5
    with pytest.raises(ConfigError, match=saying("head.degree taylor -1")):
        load(write(""), [*words, "head.degree=-1"])
    with pytest.raises(ConfigError, match=saying("head.degree exact degree")):
        load(write(""), ["head.name=gaussian", "head.degree=5"])


def test_arguments_that_the_optimizer_has_not(faults):
    assert says(faults("optim: {name: sgd, betas: [0.9, 0.99]}")[0], "optim.betas null sgd")
    assert says(faults("optim: {name: adamw, options: {amsgrat: true}}")[0], "optim.options amsgrat amsgrad")
    assert not faults("optim: {name: adamw, betas: [0.9, 0.99], eps: 1.0e-6, options: {amsgrad: true}}")
    assert says(faults("optim: {layer_decay: 1.5}")[0], "optim.layer_decay 1.5")
