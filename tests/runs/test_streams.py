"""train.py and evaluate.py on data sets that another library reads: by index, and as a stream."""

import re
import signal

import pytest

from gcp.config import load
from gcp.config.describe import json_schema

EPOCHS = ["train.epochs=2", "train.mixup=0", "train.accumulate=1", "train.batch_size=2", "schedule.warmup=0"]


@pytest.fixture
def words(tree, here):
    """The settings of a run on a small set of that kind."""

    def words(kind):
        root = tree(kind)["root"]
        name = "wds/birds" if kind == "wds" else f"hfds/{root}#fine"
        place = root if kind == "wds" else here / "cache"
        few = "null" if kind == "wds" else "3"
        return [
            "--config",
            "small.yaml",
            f"data.name={name}",
            f"data.root={place}",
            f"data.per_class={few}",
            "data.image_size=16",
            "data.in_chans=3",
            "data.val_fraction=0.3",
            "checkpoint.every=1 steps",
            *EPOCHS,
        ]

    return words


@pytest.mark.parametrize("kind", ["wds", "hfds"])
def test_killed_in_the_middle_of_an_epoch(kind, words, zygote, here, same_runs):
    given = [*words(kind), "data.workers=1"]
    assert zygote.train(here, *given, "run.name=whole").code == 0
    killed = zygote.train(here, *given, "run.name=killed", moment="gcp.engine.train:update:6:after")
    assert killed.code == -signal.SIGKILL
    resumed = zygote.train(here, "resume=killed")
    assert resumed.code == 0, resumed.err
    assert "at step 5, epoch 2" in resumed.out  # of four or five steps
    same_runs(here / "runs/killed", here / "runs/whole")


@pytest.mark.parametrize("kind", ["wds", "hfds"])
def test_every_image_is_scored_once(kind, words, train, evaluate):
    assert train(*words(kind), "run.name=x", "train.epochs=1").code == 0
    for split, count in (("test", 12), ("val", None), ("train", None)):
        answers = [evaluate("--checkpoint", "runs/x", f"split={split}", f"data.workers={n}") for n in (0, 1, 3)]
        assert [answer.code for answer in answers] == [0, 0, 0]
        assert len({answer.out for answer in answers}) == 1
        assert count is None or f"{count} images" in answers[0].out


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["data.name=hfd/cifar10"], "data.name: got 'hfd/cifar10' .*hfds/cifar10"),
        (["data.name=wds/x"], "data.root: .*null .*folder"),
        (["data.name=torch/mnist"], "data.root: got null"),
        (["data.name=wds/x", "data.root=.", "data.per_class=2"], "data.per_class.* 2.*null"),
        (["data.name=wds/x", "data.root=.", "data.per_class=null"], "cannot read .*_info.json"),
        (["data.name=tfds/x"], "not installed.*pip install tensorflow"),
    ],
)
def test_one_message(settings, text, small, refused, here):
    message = refused(small("data.image_size=16", "data.in_chans=3", "data.per_class=null", *settings))
    assert re.search(text, message, re.DOTALL), message
    assert not (here / "runs").exists() or not list((here / "runs").iterdir())


def test_families_are_known_to_the_configuration(here):
    assert load("small.yaml", ["data.name=hfds/uoft-cs/cifar100#fine_label"]).data.root is None
    name = json_schema()["$defs"]["Data"]["properties"]["name"]
    assert "digits" in name["anyOf"][0]["enum"] and name["anyOf"][1]["pattern"].startswith("^(hfds|")


def test_list(train):
    answer = train("--list", "datasets", "*/[*]")
    assert answer.code == 0 and [line.split()[0] for line in answer.out.splitlines()] == [
        "hfds/*",
        "tfds/*",
        "torch/*",
        "wds/*",
    ]
