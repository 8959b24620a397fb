"""train.py's command line: help, and every mistake that it refuses before anything is trained."""

import os
import re

import pytest

from gcp.config import Config
from gcp.config.recipes import find
from gcp.config.validate import key_schemas

FILES = {
    "list.yaml": "- a\n- b\n",
    "text.yaml": "hello\n",
    "broken.yaml": "run: {dir: [\n",
    "fast.yaml": "optim:\n  lr: fast\n",
    "twice.yaml": "optim:\n  lr: 1\n  lr: 2\n",
}
MISTAKES = {
    "unknown head": (["head.name=svd_pad"], r"head\.name: .*'svd_pad' .*svd_pade\?"),
    "unknown backbone": (["model.backbone=resnet8_cifr"], r"model\.backbone: .*'resnet8_cifar'\?"),
    "unknown data set": (["data.name=digit"], r"data\.name: .*'digit' .*digits\?"),
    "unknown key": (["optim.learn_rate=0.1"], r"optim\.learn_rate: .*0\.1 .*name, lr"),
    "misspelt key": (["optim.momentun=0.1"], r"optim\.momentun.*optim\.momentum\?"),
    "unknown section": (["optimizer.lr=0.1"], r"optimizer: .* optim\?"),
    "wrong type": (["train.epochs=many"], r"train\.epochs.*'many'.*>= 1"),
    "learning rate": (["optim.lr=fast"], r"optim\.lr.*'fast'.*> 0"),
    "out of range": (["train.batch_size=0"], r"train\.batch_size.*0.*>= 1"),
    "option of another head": (["head.degree=5"], r"head\.degree: an option of svd_taylor, .*not of svd_pade"),
    "no root": (
        ["data.name=folder"],
        r"data\.root.*null.*folder.*\(data\.name: folder\)",
    ),
    "missing folder": (
        ["data.name=folder", "data.root=nowhere"],
        r"the folder \S*nowhere does not exist: \S+ holds no 'nowhere'\.$",
    ),
    "no GPU": (["run.device=cuda:63"], r"run\.device: cuda:63 .*run\.device=cpu"),
    "1x1 map": (
        ["model.backbone=resnet18", "data.image_size=32"],
        r"two samples.* 1x1.*larger.*data\.image_size.*smaller",
    ),
    "too small images": (["model.backbone=alexnet", "data.image_size=9"], r"images of 9x9 do not fit backbone"),
    "few shot of too few": (["data.per_class=9999"], r"per_class=9999 .*data\.per_class=122"),
    "no batch": (["train.batch_size=64", "train.drop_last=true"], r"40 images make no batch of 64"),
    "weights in no section": (["pretrained=no.pt"], r"pretrained: .*no\.pt.*did you mean model\.pretrained\?"),
    "weights of a file": (["model.pretrained=no.pt"], r"no checkpoint at no\.pt"),
    "weights in an image": (["model.pretrained=1.jpg", "data.preprocessing=weights"], r"1\.jpg cannot be read.* image"),
    "run folder is a file": (["run.dir=small.yaml"], r"folder in small\.yaml: .*run\.dir="),
    "no key=value": (["lr"], r"'lr'.* key=value"),
    "no value": (["optim.lr="], r"'optim\.lr='.*optim\.lr=null"),
    "resume with a file": (["resume=x"], r"resume .*leave --config out"),
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_leave_no_run(words, message, small, refused, here):
    (here / "1.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    text = refused(small(*words))
    assert re.search(message, text), text
    assert len(text.splitlines()) <= 2  # a fault of the configuration has a heading
    assert not (here / "runs").exists() or not os.listdir(here / "runs")
    assert (here / "small.yaml").is_file()


def _integers(form):
    options = [form, *form.get("anyOf", [])]
    return any(o.get("type") == "integer" or (o.get("type") == "array" and _integers(o["items"])) for o in options)


# Seeds and the length of a run are no sizes.
SIZES = [
    f"{section}.{key}"
    for section, keys in key_schemas().items()
    for key, form in keys.items()
    if _integers(form) and key not in ("epochs", "seed", "split_seed", "last_stride", "patience")
]
BESIDE = {  # what has a key be read
    "evolve": ["evolve.every=1", "evolve.start=0"],
    "train.cache_views": ["train.cache_features=true", "model.freeze=[features]", "train.mixup=0", "train.ema=null"],
}


@pytest.mark.parametrize("key", [*SIZES, "model.widths", "model.norm", "head.sketch"])
def test_absurd_sizes_are_one_message_or_no_matter(key, small, here):
    """Nothing runs for ever, and what no memory can hold is refused by the first who asks for it."""
    absurd = 10**15
    value = {"model.hidden": f"[{absurd}]", "model.widths": f"{{head.reduction: {absurd}}}"}.get(key, absurd)
    value = f"{{name: whitening, group_size: {absurd}}}" if key == "model.norm" else value
    more = BESIDE.get(key, BESIDE.get(key.partition(".")[0], []))
    more = ["head.name=compact_bilinear"] if key == "head.sketch" else more
    answer = small("train.epochs=1", *more, f"{key}={value}")
    assert answer.code == 0 or (answer.code == 2 and answer.err.startswith("error: ")), answer
    assert "Traceback" not in answer.err and len(answer.err.splitlines()) <= 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("list.yaml", r"'list\.yaml'.*list.*mapping"),
        ("text.yaml", r"'text\.yaml'.*single value.*mapping"),
        ("broken.yaml", r"'broken\.yaml' .*YAML: line 2, column 1: "),
        ("fast.yaml", r"optim\.lr.*'fast'.*> 0"),
        ("twice.yaml", r"optim\.lr: .*twice.*line 2 .*line 3.*once"),
        ("smal.yaml", r"'smal\.yaml'.*'small\.yaml'"),
        (".", r"'\.' is a folder.*YAML file"),
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
        ([], r"no configuration.*\n  gcp train --config digits/resnet\n"),
        (["--config"], "--config needs a value"),
        (["--confg", "small.yaml"], r"flag '--confg'.*'--config'"),
        (["small.yaml"], r"'small\.yaml'.* --config small\.yaml"),
        (["resume=nothing"], "no run.* nothing and runs/nothing"),
        (["resume="], "resume= has no value"),
        (["resume=."], r"no run.*\. is there.*no config\.yaml"),
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
    assert "gcp train resume=runs/x" in refused(small("run.name=x"))
    assert [file.read_text() for file in (here / "runs" / "x").iterdir()] == ["mine"]


def test_resume_changes_only_what_it_may(train, refused, here):
    (here / "runs" / "x").mkdir(parents=True)
    (here / "runs" / "x" / "config.yaml").write_text("{}")
    text = refused(train("resume=x", "optim.lr=1", "evaluate.every=2", "train.epochs=9", "data.root=z", "data.name=z"))
    assert text.startswith("2 faults in the command line:\n  optim.lr: cannot change in a run that is resumed; allowed")
    assert "\n  data.name: cannot change" in text and "train.epochs" in text and "run.device" in text


def test_resume_names_the_nearest_run(train, refused, here):
    for name in ("pade-1", "exact-1"):
        (here / "runs" / name).mkdir(parents=True)
        (here / "runs" / name / "config.yaml").write_text("{}")
    assert refused(train("resume=padé-1")).endswith("runs/pade-1?")
