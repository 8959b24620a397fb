"""train.py's command line: help, and every mistake that it refuses before anything is trained."""

import os
import re

import pytest

from gcp.config import Config
from gcp.config.recipes import find

FILES = {
    "list.yaml": "- a\n- b\n",
    "text.yaml": "hello\n",
    "broken.yaml": "run: {dir: [\n",
    "fast.yaml": "optim:\n  lr: fast\n",
    "twice.yaml": "optim:\n  lr: 1\n  lr: 2\n",
}
MISTAKES = {
    "unknown head": (["head.name=svd_pad"], r"head\.name: got 'svd_pad' .*; did you mean svd_pade\?"),
    "unknown backbone": (["model.backbone=resnet8_cifr"], r"model\.backbone: .* Did you mean 'resnet8_cifar'\?"),
    "unknown data set": (["data.name=digit"], r"data\.name: got 'digit' .*; did you mean digits\?"),
    "unknown key": (["optim.learn_rate=0.1"], r"optim\.learn_rate: unknown key, got 0\.1 .*; allowed: name, lr"),
    "misspelt key": (["optim.momentun=0.1"], r"optim\.momentun: unknown key.*; did you mean optim\.momentum\?"),
    "unknown section": (["optimizer.lr=0.1"], r"optimizer: unknown key.* did you mean optim\?"),
    "wrong type": (["train.epochs=many"], r"train\.epochs: got 'many' \(text\); allowed: a whole number >= 1"),
    "learning rate": (["optim.lr=fast"], r"optim\.lr: got 'fast' \(text\); allowed: a number > 0"),
    "out of range": (["train.batch_size=0"], r"train\.batch_size: got 0 .*; allowed: a whole number >= 1"),
    "option of another head": (["head.degree=5"], r"head\.degree: an option of svd_taylor, .*not of svd_pade"),
    "no root": (
        ["data.name=folder"],
        r"data\.root: got null .*; allowed: the folder that it lies in \(data\.name: folder\)",
    ),
    "missing folder": (["data.name=folder", "data.root=nowhere"], r"the folder .*nowhere does not exist"),
    "no GPU": (["run.device=cuda:63"], r"run\.device: cuda:63 was asked for, but .* Set run\.device=cpu or auto"),
    "1x1 map": (
        ["model.backbone=resnet18", "data.image_size=32"],
        r"at least two samples, but the feature map is 1x1: use larger images \(data\.image_size\) or a smaller",
    ),
    "too small images": (["model.backbone=alexnet", "data.image_size=9"], r"images of 9x9 do not fit backbone"),
    "few shot of too few": (["data.per_class=9999"], r"per_class=9999 asks for more .* data\.per_class=122 or less"),
    "no batch": (["train.batch_size=64", "train.drop_last=true"], r"40 images make no batch of 64"),
    "weights of a file": (["model.pretrained=no.pt"], r"no checkpoint at no\.pt"),
    "run folder is a file": (["run.dir=small.yaml"], r"cannot make a run folder in small\.yaml: .* Set run\.dir="),
    "no key=value": (["lr"], r"unexpected 'lr': a setting is given as key=value"),
    "no value": (["optim.lr="], r"override 'optim\.lr=' has no value; .* type optim\.lr=null"),
    "resume with a file": (["resume=x"], r"resume takes the configuration from the run's folder; leave --config out"),
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_leave_no_run(words, message, small, refused, here):
    text = refused(small(*words))
    assert re.search(message, text), text
    assert len(text.splitlines()) <= 2  # a fault of the configuration has a heading
    assert not (here / "runs").exists() or not os.listdir(here / "runs")
    assert (here / "small.yaml").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("list.yaml", r"'list\.yaml' holds a list; allowed: a mapping of sections"),
        ("text.yaml", r"'text\.yaml' holds a single value; allowed: a mapping of sections"),
        ("broken.yaml", r"'broken\.yaml' is not valid YAML: line 2, column 1: "),
        ("fast.yaml", r"optim\.lr: got 'fast' \(text\); allowed: a number > 0"),
        ("twice.yaml", r"optim\.lr: given twice, on line 2 and on line 3; allowed: once"),
        ("smal.yaml", r"no file 'smal\.yaml'; did you mean 'small\.yaml'\?"),
        (".", r"'\.' is a folder; allowed: a YAML file"),
    ],
)
def test_files_that_are_no_configuration(name, message, train, refused, here):
    for file, text in FILES.items():
        (here / file).write_text(text)
    text = refused(train("--config", name))
    assert text.startswith(f"1 fault in {name}:\n") and re.search(message, text)


def test_a_file_that_says_nothing(train, refused, here):
    for text in ("", "# optim: {lr: 0.1}\n", "---\n"):
        (here / "empty.yaml").write_text(text)
        assert "empty.yaml is empty" in refused(train("--config", "empty.yaml", "train.epochs=1"))


def test_all_faults_at_once(small, refused):
    text = refused(small("head.name=svd_pad", "optim.lr=fast", "optim.learn_rate=1", "train.epochs=0"))
    assert text.startswith("4 faults in small.yaml and 4 overrides:\n")
    keys = [line.split(":")[0].strip() for line in text.splitlines()[1:]]
    assert keys == ["head.name", "optim.lr", "optim.learn_rate", "train.epochs"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"no configuration\. Type for example\n  gcp train --config digits/resnet\n"),
        (["--config"], "--config needs a value"),
        (["--confg", "small.yaml"], r"unknown flag '--confg'\. Did you mean '--config'\?"),
        (["small.yaml"], r"unexpected 'small\.yaml': a configuration is given as --config small\.yaml"),
        (["resume=nothing"], "no run to be found: looked for nothing and runs/nothing"),
        (["resume="], "resume= has no value"),
        (["resume=."], r"no run to be found: \. is there, but has no config\.yaml"),
    ],
)
def test_command_lines(words, message, train, refused):
    assert re.search(message, refused(train(*words)))


def test_the_example_of_the_message_exists(train, refused):
    example = re.search(r"--config (\S+)", refused(train()))[1]
    assert find(example).is_file()


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_names_every_key(command, request):
    answer = request.getfixturevalue(command)("--help")
    assert answer.code == 0 and f"gcp {command}" in answer.out
    described = {line.split()[0]: line.split()[2:] for line in answer.out.splitlines() if line.startswith("  ")}
    for section, keys in Config().plain().items():
        for key in keys:
            assert described[f"{section}.{key}"], f"no meaning of {section}.{key}"


def test_an_existing_run_is_not_overwritten(small, refused, here):
    (here / "runs" / "x").mkdir(parents=True)
    (here / "runs" / "x" / "config.yaml").write_text("mine")
    assert "runs/x exists and is not empty. Continue it by gcp train resume=runs/x" in refused(small("run.name=x"))
    assert [file.read_text() for file in (here / "runs" / "x").iterdir()] == ["mine"]


def test_resume_changes_only_what_it_may(train, refused, here):
    (here / "runs" / "x").mkdir(parents=True)
    (here / "runs" / "x" / "config.yaml").write_text("{}")
    text = refused(train("resume=x", "optim.lr=1", "evaluate.every=2", "train.epochs=9", "data.root=z", "data.name=z"))
    assert text.startswith("2 faults in the command line:\n  optim.lr: cannot change in a run that is resumed; allowed")
    assert "\n  data.name: cannot change" in text and "train.epochs, run.device" in text


def test_resume_names_the_nearest_run(train, refused, here):
    for name in ("pade-1", "exact-1"):
        (here / "runs" / name).mkdir(parents=True)
        (here / "runs" / name / "config.yaml").write_text("{}")
    assert refused(train("resume=padé-1")).endswith("Did you mean runs/pade-1?")
