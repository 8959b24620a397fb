"""Runs whose widths change: killed and resumed around an edit, scored and used elsewhere with their widths."""

import csv
import json
import re
import shutil
import signal
from itertools import pairwise

import pytest
import torch
from run_fixtures import needs

SIGKILL = -signal.SIGKILL
MAKE = "gcp.callbacks.evolution.evolution:grow"
UPDATE = "gcp.engine.train:update"

# 9 steps in 3 epochs, edits behind the third and the sixth. Everything that has a state takes part.
SMALL = """\
run: {threads: 1, device: cpu}
data: {image_size: 8, in_chans: 1, per_class: 4}
model: {backbone: resnet8_cifar, dropout: 0.2}
head: {name: svd_pade, dim: 8}
optim: {lr: 0.05, momentum: 0.9}
train: {epochs: 3, batch_size: 8, accumulate: 2, ema: 0.9, mixup: 0.2}
checkpoint: {every: 1 steps, keep: 3}
evolve: {every: 3 steps, stop: 6 steps, images: 20, where: [head, "*layer3.0.conv1"], grow_above: 0.12, \
shrink_below: 0.1, patience: 0, min_width: 4}
"""
# two epochs, one event; draws of dropout are those of a process
WHOLE = ["model.dropout=0", "train.cutmix=0.4", "train.epochs=2", "evolve.stop=3 steps", "checkpoint.every=2 steps"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evolve")
    (folder / "small.yaml").write_text(SMALL)
    return folder


@pytest.fixture(scope="module")
def whole(place, zygote):
    """The run that nobody killed."""
    answer = zygote.train(place, "--config", "small.yaml", "run.name=whole")
    assert answer.code == 0, answer.err
    (place / "told").write_text(answer.out)
    return place / "runs" / "whole"


@pytest.fixture
def here(place, whole, monkeypatch):
    monkeypatch.chdir(place)
    yield place
    for folder in (place / "runs").iterdir():
        if folder != whole:
            shutil.rmtree(folder)


def rows(folder, name="evolution.csv"):
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


def saved(folder, name="last.pt"):
    return torch.load(folder / name, weights_only=True)


def widths_of(folder, name="last.pt"):
    return saved(folder, name)["config"]["model"]["widths"]


def test_the_records_agree(whole, place):
    """Table, checkpoint, result, metrics and log tell the same widths and parameters."""
    edits, last, result = rows(whole), saved(whole), json.loads((whole / "result.json").read_text())
    assert {row["step"] for row in edits} == {"3", "6"}
    assert any(int(row["after"]) > int(row["before"]) for row in edits)
    assert any(int(row["after"]) < int(row["before"]) for row in edits)
    for name in {row["dimension"] for row in edits}:
        own = [row for row in edits if row["dimension"] == name]
        assert widths_of(whole)[name] == int(own[-1]["after"]) == result["widths"][name]
        assert all(earlier["after"] == later["before"] for earlier, later in pairwise(own))
    names = [key for key in last["model"] if key.endswith((".weight", ".bias"))]
    count = sum(last["model"][key].numel() for key in names)
    assert count == int(edits[-1]["parameters"]) == result["cost"]["parameters"]
    assert count == result["test"]["final"]["parameters"] == int(rows(whole, "metrics.csv")[-1]["parameters"])
    told = (place / "told").read_text()
    assert f"after step 3, in epoch 2: {edits[0]['why']}; output error" in told
    assert re.search(r"\nevolve +spectrum, .* 3 steps .* 1 to 6\n +2 widths: ", told)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole))
    events.Reload()
    assert events.Scalars("width/parameters")[-1].value == count


@pytest.mark.parametrize(
    ("moment", "step"),
    [
        (f"{MAKE}:1:after", 3),
        (f"{UPDATE}:5:before", 4),
    ],
    ids=["within an edit", "behind it"],
)
def test_killed_around_an_edit(moment, step, zygote, here, whole, same_runs):
    """Killed between the edits of a step, and behind the first checkpoint with other widths."""
    killed = zygote.train(here, "--config", "small.yaml", "run.name=x", moment=moment)
    assert killed.code == SIGKILL
    assert saved(here / "runs/x")["progress"]["step"] == step
    resumed = zygote.train(here, "resume=x")
    assert (resumed.code, resumed.err) == (0, "")
    same_runs(here / "runs/x", whole)
    assert rows(here / "runs/x") == rows(whole)


def test_a_checkpoint_in_which_the_edits_were_a_field_of_the_progress(zygote, here, whole, same_runs):
    killed = zygote.train(here, "--config", "small.yaml", "run.name=x", moment=f"{UPDATE}:5:before")
    assert killed.code == SIGKILL
    last = saved(here / "runs/x")
    edits = last.pop("callbacks")["evolution"]["edits"]
    assert edits and last["progress"].pop("callbacks")
    last["progress"] |= {"switched": None, "evolved": edits}
    torch.save(last | {"switched": None}, here / "runs/x/last.pt")
    resumed = zygote.train(here, "resume=x")
    assert (resumed.code, resumed.err) == (0, "")
    same_runs(here / "runs/x", whole)
    assert rows(here / "runs/x") == rows(whole)


def test_scored_as_it_was_trained(here, whole, zygote):
    words = ["--checkpoint", "runs/whole/last.pt", "--json", "scores.json"]
    assert zygote.train(here, *words, command="gcp.cli.evaluate").code == 0
    scores = json.loads((here / "scores.json").read_text())
    expected = json.loads((whole / "result.json").read_text())["test"]["final"]
    assert {key: scores[key] for key in ("loss", "top1")} == {key: expected[key] for key in ("loss", "top1")}


def test_its_best_may_be_of_other_widths(zygote, here, monkeypatch, capsys):
    """The best epoch is the first, before any edit."""
    import gcp.cli.train
    from gcp.cli.main import run
    from gcp.engine.state import Progress

    improve = Progress.improve
    monkeypatch.setattr(Progress, "improve", lambda self, scores: self.best is None and improve(self, scores))
    for picture in ("gcp.drawing.curves.draw_curves", "gcp.callbacks.evolution.plot.draw"):
        monkeypatch.setattr(picture, lambda *_: None)
    words = ["--config", "small.yaml", "run.name=x", "train.epochs=2", "evolve.stop=3 steps", "evolve.where=[head]"]
    assert run(gcp.cli.train.main, words) == 0, capsys.readouterr().err
    folder = here / "runs/x"
    test = json.loads((folder / "result.json").read_text())["test"]
    assert widths_of(folder, "best.pt") != widths_of(folder)
    assert test["best"]["parameters"] != test["final"]["parameters"] and test["best"]["epoch"] == 1
    assert run(gcp.cli.train.main, ["resume=runs/x"]) == 0
    assert "is finished" in capsys.readouterr().out


def test_two_processes(here, zygote, same_runs):
    """The widths and, but for rounding, the weights of one process; killed and resumed, its own to the last bit."""
    words = ["--config", "small.yaml", *WHOLE]
    for world, name in ((1, "one"), (2, "two")):
        codes, _, err = zygote.together(world, here, *words, f"run.name={name}")
        assert codes == [0] * world, err
    one, two = (here / "runs" / name for name in ("one", "two"))
    decided = [[{key: row[key] for key in ("step", "dimension", "after")} for row in rows(run)] for run in (one, two)]
    assert decided[0] == decided[1] and len(decided[0]) > 1
    for part in ("model", "ema"):
        first, second = (torch.cat([t.double().flatten() for t in saved(run)[part].values()]) for run in (one, two))
        assert (first - second).norm() / first.norm() < 5e-4
    codes, _, _ = zygote.together(2, here, *words, "run.name=x", moment=f"{UPDATE}:4:before", rank=1)
    assert codes[1] == SIGKILL
    assert zygote.together(2, here, "resume=x")[0] == [0, 0]
    same_runs(here / "runs/x", two)


def test_a_stage_goes_on_with_the_widths_of_the_one_before(here, zygote):
    stages = "stages=[{train: {epochs: 2}}, {evolve: {where: [head], min_width: 3}, train: {epochs: 2}}]"
    words = ["--config", "small.yaml", "run.name=x", "evolve.stop=3 steps", stages]
    answer = zygote.train(here, *words, moment=f"{UPDATE}:8:before")
    assert answer.code == SIGKILL, answer.err
    answer = zygote.train(here, "resume=x")
    assert answer.code == 0, answer.err
    first, second = (here / "runs/x" / f"stage-{number}" for number in (1, 2))
    before, after = widths_of(first), widths_of(second)
    assert rows(first) and {name for name in before if before[name] != after[name]} <= {"head.reduction"}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            [
                *("run.amp=bf16", "run.channels_last=true", "hybrid.to=svd_taylor", "hybrid.at=4 steps"),
                *("evolve.signal=weights", "monitor.spectrum=true"),
            ],
            marks=[needs("hybrid"), needs("monitor")],
        ),
        [
            *("evolve.policy=budget", "evolve.budget=99.6 % parameters", "evolve.grow_above=0.15"),
            *("evolve.shrink_below=0.1", "model.freeze=[features.layer2]"),
            *("optim.name=adamw", "optim.lr=0.001", "train.ema=null"),
        ],
    ],
    ids=["amp, channels last, hybrid, weights, monitor", "budget, frozen layer, adamw, no average"],
)
def test_together_with(words, here, zygote, whole):
    """And resumed behind the first edit, to the same weights."""
    words = ["--config", "small.yaml", "evolve.where=[head]", "checkpoint.every=2 steps", *words]
    answer = zygote.train(here, *words, "run.name=x")
    assert answer.code == 0, answer.err
    assert rows(here / "runs/x")
    assert zygote.train(here, *words, "run.name=y", moment=f"{UPDATE}:6:before").code == SIGKILL
    assert zygote.train(here, "resume=y").code == 0
    first, second = (saved(here / "runs" / name) for name in "xy")
    assert rows(here / "runs/x") == rows(here / "runs/y")
    assert all(torch.equal(first["model"][key], second["model"][key]) for key in first["model"])


TRANSFORMER = [
    *("model.backbone=test_vit", "data.image_size=32", "optim.name=adamw", "optim.lr=0.001", "train.epochs=2"),
    *("evolve.stop=3 steps", "checkpoint.every=2 steps", "evolve.min_width=4"),
    "evolve.where=['*blocks.0.*']",
]


def test_a_transformer(here, zygote, same_runs):
    """Heads, their channels and hidden units; killed behind the edits, resumed, scored."""
    words = ["--config", "small.yaml", *TRANSFORMER]
    answer = zygote.train(here, *words, "run.name=x")
    assert answer.code == 0, answer.err
    edits = rows(here / "runs/x")
    assert {row["dimension"].rpartition(".")[2] for row in edits} >= {"num_heads", "head_dim", "fc1"}
    assert all(float(row["error"]) < 1e-5 for row in edits if int(row["after"]) > int(row["before"]))
    killed = zygote.train(here, *words, "run.name=y", moment=f"{UPDATE}:5:before")
    assert killed.code == SIGKILL and widths_of(here / "runs/y") == widths_of(here / "runs/x")
    resumed = zygote.train(here, "resume=y")
    assert (resumed.code, resumed.err) == (0, "")
    same_runs(here / "runs/y", here / "runs/x")
    words = ["--checkpoint", "runs/y/last.pt", "--json", "scores.json"]
    assert zygote.train(here, *words, command="gcp.cli.evaluate").code == 0
    expected = json.loads((here / "runs/x/result.json").read_text())["test"]["final"]["top1"]
    assert json.loads((here / "scores.json").read_text())["top1"] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evolve.where=[features.layr1]"], r"'features\.layr1'.*'features'"),
        (["evolve.where=[hed]"], r"'hed'.*'head'.*features, "),
        (
            [
                "evolve.policy=budget",
                "evolve.budget=25 parameters",
                "evolve.grow_above=0.15",
                "evolve.shrink_below=0.1",
            ],
            r"25 parameters.*evolve\.min_width=4.*costs \S*\d",
        ),
        (
            ["evolve.every=5 steps", "evolve.start=6 steps", "evolve.stop=9 steps"],
            "5 steps.* 6 to 9 .*never",
        ),
        (["model.freeze=[features.layer1, features.conv1]", "evolve.where=['*layer1*']"], r"layer1\.0\.conv1.*frozen"),
        (["optim.name=adafactor"], r"optim\.name.*adafactor.*: \w"),
        (["model.widths={head.reductio: 3}"], r"'head\.reductio'.*'head\.reduction'"),
    ],
)
def test_refusals_leave_no_run(words, message, here, zygote):
    answer = zygote.train(here, "--config", "small.yaml", "run.name=x", *words)
    assert answer.code == 2 and re.search(message, answer.err) and "Traceback" not in answer.err, answer.err
    assert not (here / "runs/x").exists()


def test_another_policy_for_a_run_that_is_there(here, zygote, whole):
    """Of what only the other policy reads, no more is told than what is different."""
    words = ["evolve.policy=budget", "evolve.budget=50 % parameters", "evolve.grow_above=0.15"]
    answer = zygote.train(here, "--config", "small.yaml", "run.name=whole", "resume=auto", *words)
    assert answer.code == 2
    told = [
        r"evolve\.policy: .*'budget'.*'spectrum'",
        r"evolve\.grow_above: .*0\.15.*0\.12",
        r"evolve\.budget: .*'50 % parameters'.*None",
    ]
    lines = answer.err.splitlines()[1:]
    assert len(lines) == len(told) and all(map(re.search, told, lines)), lines


def test_its_widths_for_another_run(here, zygote, whole):
    """From scratch, and from its weights, which fit no other widths."""
    shape = json.dumps(widths_of(whole))
    words = ["--config", "small.yaml", *(f"evolve.{key}=" + json.dumps(value) for key, value in OFF.items())]
    answer = zygote.train(here, *words, "run.name=x", "train.epochs=1", "model.pretrained=runs/whole")
    assert answer.code == 2 and re.search(r"widths.*Set model\.widths", answer.err)
    for name, pretrained in (("x", "false"), ("y", "runs/whole")):
        more = [f"run.name={name}", "train.epochs=1", f"model.widths={shape}", f"model.pretrained={pretrained}"]
        answer = zygote.train(here, *words, *more)
        assert answer.code == 0 and "weights    loaded" not in answer.err, answer.err
        shapes = {key: value.shape for key, value in saved(here / "runs" / name)["model"].items()}
        assert shapes == {key: value.shape for key, value in saved(whole)["model"].items()}


OFF = {
    "every": None,
    "stop": "70 %",
    "images": 256,
    "where": [],
    "grow_above": 0.15,
    "shrink_below": 0.1,
    "patience": 2,
    "min_width": 8,
}
