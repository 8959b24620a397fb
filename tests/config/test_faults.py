"""Every kind of fault, alone and together: where, what was given, what is allowed, what to type."""

import re

import pytest

from gcp.config import from_dict, load
from gcp.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # types
        ("optim.lr=fast", "optim.lr: got 'fast' (text); allowed: a number > 0"),
        (
            "optim.lr='0.1'",
            "optim.lr: got '0.1' (text); allowed: a number > 0; did you mean 0.1 without quotes?",
        ),
        ("optim.lr=true", "optim.lr: got true (switch); allowed: a number > 0"),
        ("optim.lr=null", "optim.lr: got null (null); allowed: a number > 0"),
        ("optim.lr=.nan", "optim.lr: got .nan (number); allowed: a number > 0"),
        ("optim.lr=.inf", "optim.lr: got .inf (number); allowed: a number > 0"),
        ("optim.lr={a: 1}", "optim.lr: got {'a': 1} (section); allowed: a number > 0"),
        ("optim.lr.x=1", "optim.lr: got {'x': 1} (section); allowed: a number > 0"),
        ("train.epochs=1.5", "train.epochs: got 1.5 (number); allowed: a whole number >= 1"),
        (
            "train.epochs=1e1",
            "train.epochs: got 10.0 (number); allowed: a whole number >= 1; did you mean 10?",
        ),
        (
            "train.epochs=010",
            "train.epochs: got '010' (text); allowed: a whole number >= 1; did you mean 010 without",
        ),
        ("run.compile=yes", "run.compile: got 'yes' (text); allowed: true or false; did you mean true?"),
        ("run.compile=0", "run.compile: got 0 (whole number); allowed: true or false; did you mean false?"),
        ("run.name=5", "run.name: got 5 (whole number); allowed: a folder name of letters"),
        ("run.name=a/b", "run.name: got 'a/b' (text); allowed: a folder name of letters"),
        ("run.name=../b", "run.name: got '../b' (text); allowed: a folder name of letters"),
        ("run.name=2024-01-01:x", "run.name: got '2024-01-01:x' (text); allowed: a folder name"),
        (
            "model.hidden=1024",
            "model.hidden: got 1024 (whole number); allowed: a list, each a whole number >= 1, or null; "
            "did you mean [1024]?",
        ),
        (
            "model.hidden=[10, x]",
            "model.hidden: got [10, 'x'] (list); allowed: a list, each a whole number >= 1, or null",
        ),
        (
            "model.freeze=features",
            "model.freeze: got 'features' (text); allowed: a list, each text; did you mean [features]",
        ),
        # names and choices
        ("run.amp=yes", "run.amp: got 'yes' (text); allowed: none, bf16, fp16"),
        ("run.amp=null", "run.amp: got null (null); allowed: none, bf16, fp16; did you mean none?"),
        ("run.amp=false", "run.amp: got false (switch); allowed: none, bf16, fp16; did you mean none?"),
        ("run.amp=bf61", "run.amp: got 'bf61' (text); allowed: none, bf16, fp16; did you mean bf16?"),
        ("run.device=gpu", "run.device: got 'gpu' (text); allowed: auto, cpu, cuda, or cuda:N"),
        ("model.last_stride=3", "model.last_stride: got 3 (whole number); allowed: 1, 2, or null"),
        (
            "head.side=chanel",
            "head.side: got 'chanel' (text); allowed: auto, channel, sample; did you mean channel?",
        ),
        (
            "head.precision=float16",
            "head.precision: got 'float16' (text); allowed: float32, float64, or null; did you",
        ),
        (
            "schedule.name=cosin",
            "schedule.name: got 'cosin' (text); allowed: constant, step, multistep, cosine, onecycle; "
            "did you mean cosine?",
        ),
        (
            "data.image_size=atuo",
            "data.image_size: got 'atuo' (text); allowed: a whole number >= 1, or auto; did you mean auto?",
        ),
        # ranges
        ("optim.lr=0", "optim.lr: got 0 (whole number); allowed: a number > 0"),
        ("optim.momentum=1", "optim.momentum: got 1 (whole number); allowed: a number >= 0 and < 1"),
        ("train.ema=1.0", "train.ema: got 1.0 (number); allowed: a number > 0 and < 1, or null"),
        ("train.batch_size=0", "train.batch_size: got 0 (whole number); allowed: a whole number >= 1"),
        ("run.seed=-1", "run.seed: got -1 (whole number); allowed: a whole number >= 0 and < 4294967296"),
        ("data.workers=-1", "data.workers: got -1 (whole number); allowed: a whole number >= 0, or auto"),
        # durations
        (
            "schedule.warmup=5 epocs",
            "schedule.warmup: got '5 epocs' (text); allowed: 10 (epochs), \"500 steps\", "
            '"2 epochs", "30 %"; did you mean \'5 epochs\'?',
        ),
        ("schedule.warmup=-1", "schedule.warmup: got -1 (whole number); allowed: 10 (epochs)"),
        (
            "schedule.milestones=[1, soon]",
            "schedule.milestones: got [1, 'soon'] (list); allowed: a list, each 10 (epochs)",
        ),
        ("evaluate.every=0", "evaluate.every: got 0 (whole number); allowed: 10 (epochs)"),
        ("evaluate.every=10 minutes", "evaluate.every: got '10 minutes' (text); allowed: 10 (epochs)"),
        ("checkpoint.every=10 minuts", '"30 %", "10 minutes"; did you mean \'10 minutes\'?'),
        # unknown keys
        (
            "lr=0.1",
            "lr: unknown key, got 0.1 (number); allowed: run, data, model, head, optim, schedule, train, "
            "evaluate, checkpoint, ",
        ),
        ("lr=0.1", "stages; did you mean optim.lr?"),
        (
            "model.lr=0.1",
            "model.lr: unknown key, got 0.1 (number); allowed: backbone, pretrained, last_stride, freeze, "
            "hidden, dropout, classifier_norm, factors, widths; did you mean optim.lr?",
        ),
        (
            "optim.wieght_decay=1",
            "optim.wieght_decay: unknown key, got 1 (whole number); allowed: name, lr, momentum, ",
        ),
        ("optim.wieght_decay=1", "did you mean optim.weight_decay?"),
        ("batch_size=8", "did you mean train.batch_size or evaluate.batch_size?"),
        ("train-epochs=8", "did you mean train.epochs?"),
        ("headdim=8", "did you mean head.dim?"),
        ("train.batchSize=8", "did you mean train.batch_size?"),
        ("optimiser.lr=1", "optimiser: unknown key, got {'lr': 1} (section); allowed: run, data, model"),
        ("optimiser.lr=1", "did you mean optim?"),
        ("extends=base.yaml", "extends: unknown key, got 'base.yaml' (text); allowed: run, data"),
        (
            "head=svd_taylor",
            "head: override 'head=svd_taylor' sets a section; allowed: one of its keys; did you mean "
            "head.name=svd_taylor?",
        ),
        ("optim=null", "optim: override 'optim=null' sets a section; allowed: one of its keys"),
        # overrides that are none
        ("optim.lr", "override 'optim.lr' has no '='; allowed: key.path=value, such as optim.lr=0.01"),
        ("=1", "override '=1' names no key; allowed: key.path=value"),
        ("optim..lr=1", "override 'optim..lr=1' names no key; allowed: key.path=value"),
        ("optim.lr=", "override 'optim.lr=' has no value; for the absence of one type optim.lr=null"),
        ("optim.lr=[1", "override 'optim.lr=[1' has a value that is not valid YAML: expected ',' or ']'"),
        # registries
        ("head.name=svd_pad", "head.name: got 'svd_pad' (text); allowed: average, "),
        ("head.name=svd_pad", "(--list heads); did you mean svd_pade?"),
        ("data.name=digit", "data.name: got 'digit' (text); allowed: "),
        ("data.name=digit", "(--list datasets); did you mean digits?"),
        ("optim.name=adamm", "optim.name: got 'adamm' (text); allowed: the "),
        (
            "optim.name=adamm",
            "names of timm.optim.list_optimizers(), such as sgd, adamw, lamb, lion; did you mean adam",
        ),
        ("model.backbone=resnt50", "model.backbone: unknown backbone 'resnt50'. Did you mean 'resnet50'?"),
        (
            "data.transform=defaut",
            "data.transform: got 'defaut' (text); allowed: default, none (data.name: digits); did you mean default?",
        ),
        (
            "data.image_size=4",
            "data.image_size: got 4 (whole number); allowed: a whole number >= 8 (data.name: digits)",
        ),
        (
            "data.root=~/digits",
            "data.root: got '~/digits' (text); allowed: null, it is part of an installed package (data.name: digits)",
        ),
        ("data.name=folder", "data.root: got null (null); allowed: the folder that it lies in (data.name: folder)"),
        # the head's own options
        (
            "head.degree=5",
            "head.degree: an option of svd_taylor, ",
        ),
        (
            "head.degree=5",
            "not of svd_pade; remove it with head.degree=null",
        ),
        (
            "head.nme=x",
            "head.nme: unknown key, got 'x' (text); allowed: name, dim, side, form, precision, reduction",
        ),
        ("head.nme=x", "did you mean head.name?"),
        ("head.nothing_like_it=null", "head.nothing_like_it: unknown key, got null (null)"),
        # keys that must fit each other
        (
            "run.amp=fp16 run.device=cpu",
            "run.amp: got 'fp16' (text); allowed: none, bf16 with run.device: cpu; did you mean bf16?",
        ),
        (
            "head.form=published head.side=sample",
            "head.side: got 'sample' (text); allowed: channel or auto with head.form: published",
        ),
        (
            "schedule.milestones=[3]",
            "schedule.milestones: got ['3 epochs'] (list); allowed: the default with schedule.name: cosine; "
            "did you mean schedule.name=multistep?",
        ),
        (
            "schedule.name=multistep",
            "schedule.milestones: got [] (list); allowed: at least one duration with schedule.name: multistep",
        ),
        (
            "schedule.name=multistep schedule.milestones=[5, 3]",
            "schedule.milestones: got ['5 epochs', '3 epochs'] (list); allowed: durations that increase",
        ),
        (
            "schedule.every=3",
            "schedule.every: got '3 epochs' (text); allowed: the default with schedule.name: cosine; did "
            "you mean schedule.name=step?",
        ),
        (
            "schedule.warmup=10",
            "schedule.warmup: got '10 epochs' (text); allowed: shorter than the run of 10 epochs",
        ),
        ("schedule.warmup=100 %", "schedule.warmup: got '100 %' (text); allowed: shorter than the run"),
        (
            "schedule.name=onecycle schedule.warmup=1",
            "schedule.warmup: got '1 epochs' (text); allowed: 0 with schedule.name: onecycle",
        ),
        ("schedule.min_lr=1", "schedule.min_lr: got 1.0 (number); allowed: a number <= optim.lr, 0.1"),
        (
            "optim.nesterov=true optim.momentum=0",
            "optim.momentum: got 0 (whole number); allowed: a number > 0 with optim.nesterov: true",
        ),
        (
            "optim.nesterov=true optim.name=adamw",
            "optim.nesterov: got true (switch); allowed: false with optim.name: adamw",
        ),
        ("data.name=hfds/", "did you mean hfds/NAME?"),
        ("head.name=average head.side=channel", "head.side: head 'average' has no 'side'"),
        ("head.name=newton_schulz head.form=published", "head.form: head 'newton_schulz' has no 'form'"),
        ("head.reduction=pool", "head.reduction: reduction is 'pool'; allowed: conv"),
        ("head.name=mpa_lyapunov head.backward=lyapunow", "head.backward: "),
        (
            "model.freeze=[feature.layer1]",
            "model.freeze: got 'feature.layer1' (text); allowed: features, head, classifier, "
            "or a part of them such as features.layer1; did you mean features.layer1?",
        ),
        (
            "model.freeze=[features.]",
            "model.freeze: got 'features.' (text); allowed: features, head, classifier",
        ),
        ("model.freeze=[head, classifier, features]", "allowed: at least one part left to train"),
    ],
)
def test_one_fault(faults, override, message):
    found = faults("", *re.split(r" (?=\w+\.\w+=)", override))
    assert len(found) == 1 and message in found[0], found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {lr: 1e-1, lr: 2}", "optim.lr: given twice, on line 1 and on line 1; allowed: once"),
        (
            "optim:\n  lr: 1\ntrain: {}\noptim:\n  lr: 2",
            "optim: given twice, on line 1 and on line 4; allowed: once",
        ),
        (
            "head: svd_pade",
            "head: got 'svd_pade' (text); allowed: a section with the keys name, dim, side, form, precision, "
            "reduction, spectral_norm; did you mean head.name=svd_pade?",
        ),
        ("optim: [1]", "optim: got [1] (list); allowed: a section with the keys name, lr, momentum, "),
        ("5: {lr: 1}", "5: unknown key, got {'lr': 1} (section); allowed: run, data, model"),
        ("optim: {5: 1}", "optim.5: unknown key, got 1 (whole number); allowed: name, lr, momentum"),
        ("optim: {true: 1}", "optim.true: unknown key, got 1 (whole number); allowed: name, lr, momentum"),
        ("head: {name: svd_taylor, degree: many}", "head.degree: "),
        ("head: {name: svd_taylor, degree: -1}", "head.degree: "),
        (
            "head: {name: svd_taylor, dgree: 3}",
            "allowed: name, dim, side, form, precision, reduction, spectral_norm, and of svd_taylor: "
            "degree; did you mean head.degree?",
        ),
    ],
)
def test_one_fault_in_a_file(faults, text, message):
    found = faults(text)
    assert len(found) == 1 and message in found[0], found


def test_two_faults_at_once(write):
    with pytest.raises(ConfigError) as error:
        load(write("optim: {lr: fast}\nhead: {name: svd_pad}"))
    assert str(error.value).startswith("2 faults in ") and error.value.faults[0].startswith("head.name: got 'svd_pad'")
    assert error.value.faults[1] == "optim.lr: got 'fast' (text); allowed: a number > 0"


def test_faults_of_every_kind_at_once(write):
    path = write(
        "lr: 1\noptim: {lr: fast, clip: 1, clip: 2}\nmodel: {backbone: resnt18}\n"
        "head: {name: svd_taylor, steps: 3, degree: -1}\nschedule: {warmup: 20}"
    )
    with pytest.raises(ConfigError) as error:
        load(path, ["train.batch_size=0", "foo", "data.root=x"])
    keys = [fault.split(":")[0] for fault in error.value.faults]
    assert keys == [
        "override 'foo' has no '='; allowed",
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
    assert f"10 faults in {path} and 3 overrides:" in str(error.value)


def test_conclusions_from_a_faulty_key_are_not_reported(faults):
    assert len(faults("schedule: {name: 5, milestones: [3]}")) == 1
    assert len(faults("head: {name: 5, degree: 7}")) == 1
    assert len(faults("head: {name: svd_tailor, degree: 7}")) == 1
    assert len(faults("train: {epochs: many}\nschedule: {warmup: 20}")) == 1
    assert len(faults("data: {name: foldr}")) == 1


def test_faults_of_overrides_beside_an_unreadable_file(write):
    with pytest.raises(ConfigError) as error:
        load(write("a: ["), ["optim.lr=fast", "schedule.milestones=[3]"])
    kinds = [fault.split(":")[0] for fault in error.value.faults]
    assert kinds[1:] == ["optim.lr"] and "not valid YAML" in error.value.faults[0]


def test_from_dict_names_its_source():
    with pytest.raises(ConfigError, match=r"1 fault in the checkpoint 'x':\n  optim.lr: got 'a'"):
        from_dict({"optim": {"lr": "a"}}, source="the checkpoint 'x'")


def test_long_values_are_shortened(faults):
    (fault,) = faults(f"optim: {{lr: [{', '.join('1' * 400)}]}}")
    assert len(fault) < 200


def test_options_of_a_rule_that_a_head_leaves_to_choose(write):
    words = ["head.name=gaussian", "head.rule=taylor", "head.degree=5"]
    assert load(write(""), words).head.options["degree"] == 5
    with pytest.raises(ConfigError, match=r"head\.degree.*degree of 'taylor' is -1"):
        load(write(""), [*words, "head.degree=-1"])
    with pytest.raises(ConfigError, match=r"head\.degree.*'exact' has no option 'degree'"):
        load(write(""), ["head.name=gaussian", "head.degree=5"])
