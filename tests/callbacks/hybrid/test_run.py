"""A run that switches its head: killed and resumed on either side of the switch, and scored as it was trained."""

import csv
import dataclasses
import json
import re
import signal
from functools import partial

import pytest
import torch

import gcp.cli.train
from gcp.callbacks.base import RunContext
from gcp.callbacks.hybrid.callback import probe_images
from gcp.cli.main import run
from gcp.config import from_dict
from gcp.runs.build import build_splits

SIGKILL = -signal.SIGKILL

# The small run has 9 steps in 3 epochs. All of these switch before step 7, the first of the third epoch, but for one.
FORMS = {
    "last decay": ["hybrid.at=last_decay", "schedule.name=multistep", "schedule.milestones=[1, 2]"],
    "in the middle of an epoch": ["hybrid.at=5 steps"],
    "condition number": ["hybrid.condition_below=0.9e18", "evaluate.every=3 steps"],
}
SWITCH = ["head.name=newton_schulz", "hybrid.to=svd_taylor", "hybrid.degree=5", "checkpoint.every=1 steps"]
SWITCHED_AT = {"last decay": 6, "in the middle of an epoch": 5, "condition number": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folders of the runs that nobody killed, by form."""
    place, made = tmp_path_factory.mktemp("whole"), {}
    (place / "small.yaml").write_text(SMALL)

    def whole(form):
        if form not in made:
            words = [
                "--config",
                f"{place}/small.yaml",
                f"run.dir={place}",
                f"run.name=w{len(made)}",
                *SWITCH,
                *FORMS[form],
            ]
            assert run(gcp.cli.train.main, words) == 0
            made[form] = place / f"w{len(made)}"
        return made[form]

    return whole


SMALL = """\
run: {threads: 1, device: cpu}
data: {image_size: 8, in_chans: 1, per_class: 4}
model: {backbone: resnet8_cifar, dropout: 0.2}
head: {dim: 8}
optim: {lr: 0.05, momentum: 0.9}
train: {epochs: 3, batch_size: 8, accumulate: 2, ema: 0.9, mixup: 0.2}
"""


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("form", "after"),
    [
        ("last decay", -1),
        ("last decay", 0),
        ("last decay", 1),
        ("in the middle of an epoch", 0),
        ("condition number", 0),
    ],
)
def test_killed_around_the_switch(form, after, zygote, here, whole, same_runs):
    """With a checkpoint of the step before it, of the very step, where it is not made yet, and of the step behind."""
    (here / "hybrid.yaml").write_text(SMALL)
    step = SWITCHED_AT[form] + after
    words = ["--config", "hybrid.yaml", "run.name=x", *SWITCH, *FORMS[form]]
    killed = zygote.train(here, *words, moment=f"gcp.engine.train:update:{step + 1}:before")
    assert killed.code == SIGKILL
    saved = torch.load(here / "runs/x/last.pt", weights_only=True)
    assert saved["progress"]["step"] == step and bool(saved["callbacks"]["hybrid"]["switched"]) == (after == 1)
    resumed = zygote.train(here, "resume=x")
    assert (resumed.code, resumed.err) == (0, "")
    assert bool(re.search(r"\nhead newton_schulz -> svd_taylor", resumed.out)) == (after < 1)
    same_runs(here / "runs/x", whole(form))


@pytest.mark.parametrize("form", FORMS)
def test_the_table_names_the_head_of_every_epoch(form, whole):
    table, at = rows(whole(form)), SWITCHED_AT[form]
    assert [row["head"] for row in table] == [
        "svd_taylor" if at < int(row["step"]) else "newton_schulz" for row in table
    ]
    assert all(("condition" in row) == (form == "condition number") for row in table)


def test_the_switch_is_told(train, here):
    (here / "hybrid.yaml").write_text(SMALL)
    answer = train("--config", "hybrid.yaml", "run.name=x", *SWITCH, *FORMS["condition number"])
    told = re.findall(
        r"\nhead newton_schulz -> svd_taylor after step 3, in epoch 2: condition number (\S+) below", answer.out
    )
    condition = float(rows(here / "runs/x")[0]["condition"])
    assert len(told) == 1 and float(told[0]) == pytest.approx(condition, rel=1e-2) and condition > 1
    assert re.search(r"\nhybrid +svd_taylor .*below 9e\+17\n", answer.out)
    assert f"{condition:.2e}" in answer.out

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(here / "runs/x"))
    events.Reload()
    (text,) = events.Tensors("head/text_summary")
    assert text.step == 4 and b"newton_schulz -> svd_taylor" in text.tensor_proto.string_val[0]
    assert len(events.Scalars("epoch/condition")) == 3


def test_the_moment_is_told_before_the_first_step(train, here):
    (here / "hybrid.yaml").write_text(SMALL)
    answer = train("--config", "hybrid.yaml", "run.name=x", *SWITCH, "hybrid.at=50 %", "train.epochs=2")
    assert re.search(r"\nhybrid +svd_taylor .*step 3 .*50 %", answer.out)


def test_a_bound_that_is_never_reached(train, here):
    (here / "hybrid.yaml").write_text(SMALL)
    answer = train("--config", "hybrid.yaml", "run.name=x", *SWITCH, "hybrid.condition_below=1e-3", "train.epochs=1")
    assert answer.code == 0 and "->" not in answer.out
    assert json.loads((here / "runs/x/result.json").read_text())["test"]["final"]["head"] == "newton_schulz"


def test_the_switch_changes_the_weights(train, here, whole):
    (here / "hybrid.yaml").write_text(SMALL)
    assert train("--config", "hybrid.yaml", "run.name=x", "head.name=newton_schulz", "hybrid.to=null").code == 0
    plain, switched = (
        torch.load(folder / "last.pt", weights_only=True)["model"]["classifier.weight"]
        for folder in (here / "runs/x", whole("in the middle of an epoch"))
    )
    assert not torch.allclose(plain, switched)


@pytest.fixture
def best_before(train, here, monkeypatch):
    """A run whose best epoch is the first, before the switch."""
    from gcp.engine.state import Progress

    improve = Progress.improve
    monkeypatch.setattr(Progress, "improve", lambda self, scores: self.best is None and improve(self, scores))
    (here / "hybrid.yaml").write_text(SMALL)
    assert train("--config", "hybrid.yaml", "run.name=x", *SWITCH, "hybrid.at=5 steps").code == 0
    return json.loads((here / "runs/x/result.json").read_text())["test"]


def test_either_side_is_scored_with_its_own_head(best_before, evaluate, here):
    """The result of the run, and evaluate.py in another process: the same figures from the same head."""
    for name, part, head in (("best.pt", "best", "newton_schulz"), ("last.pt", "final", "svd_taylor")):
        answer = evaluate("--checkpoint", f"runs/x/{name}", "--json", "scores.json")
        scores, expected = json.loads((here / "scores.json").read_text()), best_before[part]
        assert scores["head"] == expected["head"] == head and f"resnet8_cifar + {head}\n" in answer.out
        assert {key: scores[key] for key in ("loss", "top1", "count")} == {
            key: expected[key] for key in ("loss", "top1", "count")
        }


def test_the_wrong_head_would_have_given_other_figures(best_before, evaluate, here):
    saved = torch.load(here / "runs/x/best.pt", weights_only=True)
    torch.save(saved | {"callbacks": {"hybrid": {"switched": {"step": 1}}}}, here / "wrong.pt")
    evaluate("--checkpoint", "wrong.pt", "--json", "scores.json")
    scores = json.loads((here / "scores.json").read_text())
    assert scores["head"] == "svd_taylor" and scores["loss"] != best_before["best"]["loss"]


def test_weights_of_a_hybrid_run_begin_another(best_before, train):
    assert train("--config", "hybrid.yaml", "run.name=y", "model.pretrained=runs/x/last.pt", "train.epochs=1").code == 0


def test_a_checkpoint_of_before_there_were_switches(train, evaluate, here):
    (here / "hybrid.yaml").write_text(SMALL)
    assert train("--config", "hybrid.yaml", "run.name=x", "train.epochs=1").code == 0
    for name in ("last.pt", "best.pt"):
        saved = torch.load(here / "runs/x" / name, weights_only=True)
        del saved["callbacks"], saved["config"]["hybrid"]
        saved.get("progress", {}).pop("callbacks", None)
        torch.save(saved, here / "runs/x" / name)
    assert evaluate("--checkpoint", "x").code == 0
    assert train("resume=x", "train.epochs=2").code == 0


@pytest.mark.parametrize("after", [0, 1])
def test_a_checkpoint_in_which_the_switch_was_a_field_of_the_progress(after, zygote, here, whole, same_runs, evaluate):
    (here / "hybrid.yaml").write_text(SMALL)
    form, path = "in the middle of an epoch", here / "runs/x/last.pt"
    moment = f"gcp.engine.train:update:{SWITCHED_AT[form] + after + 1}:before"
    words = ["--config", "hybrid.yaml", "run.name=x", *SWITCH, *FORMS[form]]
    assert zygote.train(here, *words, moment=moment).code == SIGKILL
    for name in ("last.pt", "best.pt"):
        saved = torch.load(here / "runs/x" / name, weights_only=True)
        record = saved.pop("callbacks")["hybrid"]["switched"]
        if "progress" in saved:
            del saved["progress"]["callbacks"]
            saved["progress"] |= {"switched": record, "evolved": []}
        torch.save(saved | {"switched": record}, here / "runs/x" / name)
    assert bool(torch.load(path, weights_only=True)["switched"]) == bool(after)
    evaluate("--checkpoint", str(path), "--json", "scores.json")
    assert json.loads((here / "scores.json").read_text())["head"] == ("svd_taylor" if after else "newton_schulz")
    resumed = zygote.train(here, "resume=x")
    assert (resumed.code, resumed.err) == (0, "")
    same_runs(here / "runs/x", whole(form))


def test_a_switch_behind_the_end_of_its_stage(train, refused, here):
    (here / "hybrid.yaml").write_text(SMALL + "stages: [{train: {epochs: 1}}, {train: {epochs: 3}}]\n")
    text = refused(train("--config", "hybrid.yaml", "stages.2.hybrid.to=seb", "stages.2.hybrid.at=10 steps"))
    assert re.search(r"stage 2: hybrid\.at: 10 steps.*step 10 ", text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hybrid.at=9 steps"], r"hybrid\.at: 9 steps.*step 9 .* 9 steps"),
        (["hybrid.at=2", "hybrid.to=average", "hybrid.degree=null"], r"hybrid\.to.*'average'"),
        (
            ["hybrid.at=last_decay", "schedule.name=step", "schedule.every=9 steps"],
            "last_decay.*step 0 .* 9",
        ),
    ],
)
def test_refusals_leave_no_run(words, message, train, refused, here):
    (here / "hybrid.yaml").write_text(SMALL)
    assert re.search(message, refused(train("--config", "hybrid.yaml", *SWITCH, *words)))
    assert not list((here / "runs").glob("*")) if (here / "runs").exists() else True


def test_what_may_not_change_when_a_run_is_resumed(train, refused, here):
    (here / "hybrid.yaml").write_text(SMALL)
    train("--config", "hybrid.yaml", "run.name=x", *SWITCH, "hybrid.at=5 steps", "train.epochs=2")
    assert "hybrid.at: cannot change" in refused(train("resume=x", "hybrid.at=6 steps"))


@pytest.mark.parametrize(
    "words",
    [["run.amp=bf16"], ["run.channels_last=true"], ["model.freeze=[features]"], ["run.compile=true", "train.ema=null"]],
    ids=["amp", "channels last", "frozen features", "compiled"],
)
def test_together_with(words, train, here, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    (here / "hybrid.yaml").write_text(SMALL)
    common = ["hybrid.to=covariance", "hybrid.degree=null", "hybrid.at=2 steps", "train.epochs=1", "train.accumulate=1"]
    answer = train("--config", "hybrid.yaml", "run.name=x", *SWITCH, *common, *words)
    assert answer.code == 0, answer.err
    assert json.loads((here / "runs/x/result.json").read_text())["test"]["final"]["head"] == "covariance"


def test_images_of_the_condition_number():
    """64 of the validation images, evenly spread, the same at every call, in batches of the evaluation."""
    config = from_dict({"data": {"image_size": 8, "in_chans": 1}, "evaluate": {"batch_size": 50}})
    splits = build_splits(config)
    fields = dict.fromkeys(each.name for each in dataclasses.fields(RunContext))
    images = probe_images(config, RunContext(**fields | {"splits": splits, "device": torch.device("cpu")}))
    first, second = list(images), list(images)
    assert [len(batch) for batch in first] == [50, 14]
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    chosen, _ = splits.val.read([0, 2, 4, 6], None)  # of 143 every 2.2th: 0, 2, 4, 6, 8, 11, ...
    assert torch.equal(first[0][:4], splits.val.normalize(chosen))


def test_the_condition_number_needs_validation_images(train, here):
    (here / "hybrid.yaml").write_text(SMALL)
    answer = train("--config", "hybrid.yaml", *SWITCH, "hybrid.condition_below=1e3", "data.val_fraction=0")
    assert answer.code == 2 and re.search(r"validation images.*data\.val_fraction=0", answer.err)
