"""A run of two stages: what it leaves, that a kill in either of them costs nothing, and what is refused."""

import json
import re
import shutil
import signal

import pytest
import torch
import yaml

import gcp.cli.train
from gcp.cli.main import run

SIGKILL = -signal.SIGKILL

# Stage 1: 3 steps an epoch, 6 in all. Stage 2: 5 an epoch, 10 in all, with an average of the weights.
TWO = """\
run: {threads: 1, device: cpu}
data: {image_size: 8, in_chans: 1, per_class: 4}
model: {backbone: resnet8_cifar}
head: {name: newton_schulz, dim: 8}
optim: {lr: 0.05}
checkpoint: {every: 2 steps}
stages:
  - {model: {freeze: [features], dropout: 0.2}, train: {epochs: 2, batch_size: 16, ema: 0.5}}
  - {train: {epochs: 2, batch_size: 8, ema: 0.9}, optim: {head_lr_factor: 3}, head: {name: svd_pade}}
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the run made in one go. Read it, and leave it as it is."""
    place = tmp_path_factory.mktemp("whole")
    (place / "two.yaml").write_text(TWO)
    assert run(gcp.cli.train.main, ["--config", f"{place}/two.yaml", f"run.dir={place}", "run.name=whole"]) == 0
    return place / "whole"


@pytest.fixture
def two(train, here):
    """Call train.py's command on the two stages in this process."""
    (here / "two.yaml").write_text(TWO)
    return lambda *words: train("--config", "two.yaml", *words)


@pytest.fixture
def copy(whole, here):
    """A copy of the finished run as runs/x."""
    shutil.copytree(whole, here / "runs" / "x")
    return here / "runs" / "x"


@pytest.fixture
def same(same_runs):
    """Check that both stages of two runs are equal bit for bit."""

    def same(first, second):
        for stage in ("stage-1", "stage-2"):
            same_runs(first / stage, second / stage)
        results = [json.loads((folder / "result.json").read_text()) for folder in (first, second)]
        assert results[0]["test"] == results[1]["test"]

    return same


def load(path):
    return torch.load(path, weights_only=True)


def test_what_it_leaves(whole):
    names = {file.name for file in whole.iterdir()}
    assert names == {".lock", "config.yaml", "result.json", "stage-1", "stage-2"}
    for stage in (1, 2):
        config = yaml.safe_load((whole / f"stage-{stage}" / "config.yaml").read_text())
        assert "stages" not in config and config["run"]["name"] == f"stage-{stage}"
        assert config["train"]["batch_size"] == {1: 16, 2: 8}[stage] and config["optim"]["lr"] == 0.05
        assert (whole / f"stage-{stage}" / "result.json").is_file()
    assert len(yaml.safe_load((whole / "config.yaml").read_text())["stages"]) == 2


def test_its_result_is_that_of_the_last_stage_with_what_each_reached(whole):
    result = json.loads((whole / "result.json").read_text())
    stages = [json.loads((whole / f"stage-{n}" / "result.json").read_text()) for n in (1, 2)]
    assert result["test"] == stages[1]["test"] and result["validation"] == stages[1]["validation"]
    assert [stage["test"] for stage in result["stages"]] == [stage["test"] for stage in stages]
    assert [stage["folder"] for stage in result["stages"]] == ["stage-1", "stage-2"]
    assert result["seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages))


def test_each_stage_trains_what_it_says(whole):
    """Frozen features are those of the beginning; the second stage changes them."""
    first, second = (load(whole / f"stage-{n}" / "last.pt")["model"] for n in (1, 2))
    from gcp.config import load as load_config
    from gcp.config import stage_configs
    from gcp.runs.build import build_model

    begin = build_model(stage_configs(load_config(whole / "config.yaml"))[0], 10, torch.device("cpu")).state_dict()
    for key in begin:
        frozen = key.startswith("features.")
        assert torch.equal(begin[key], first[key]) == frozen or key.endswith("num_batches_tracked"), key
    assert not torch.equal(first["features.body.conv1.weight"], second["features.body.conv1.weight"])


def test_the_second_stage_begins_with_the_averaged_weights_of_the_first(two, here, monkeypatch):
    """Its very first forward pass sees them, classifier included."""
    seen = []

    def stop_at_once(state, *args, **kwargs):
        seen.append({key: value.clone() for key, value in state.model.state_dict().items()})
        raise KeyboardInterrupt

    fit = gcp.runs.run.fit
    monkeypatch.setattr(
        gcp.runs.run,
        "fit",
        lambda state, *rest, **more: (stop_at_once if len(seen) else first)(state, *rest, **more),
    )

    def first(*args, **kwargs):
        seen.append(None)
        return fit(*args, **kwargs)

    assert two("run.name=x").code == 130
    saved = load(here / "runs/x/stage-1/last.pt")
    assert all(torch.equal(seen[1][key], saved["ema"][key]) for key in saved["ema"])
    assert not torch.equal(saved["ema"]["classifier.weight"], saved["model"]["classifier.weight"])


MOMENTS = {
    "before the first stage": "gcp.runs.run:fit:1:before",
    "in stage 1": "gcp.engine.train:update:4:before",
    "before the result of stage 1": "gcp.runs.classifier:score_run:1:before",
    "between the stages": "gcp.runs.classifier:score_run:1:after",
    "before the configuration of stage 2": "gcp.runs.run:dump:2:before",
    "in stage 2, before its first checkpoint": "gcp.engine.train:update:7:after",
    "in stage 2": "gcp.engine.train:update:12:before",
    "before the result of stage 2": "gcp.runs.classifier:score_run:2:before",
    "before the result of all": "gcp.runs.stages:write_json:1:before",
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_killed_and_resumed(moment, zygote, here, whole, same):
    (here / "two.yaml").write_text(TWO)
    killed = zygote.train(here, "--config", "two.yaml", "run.name=x", moment=moment)
    assert killed.code == SIGKILL and not (here / "runs/x/result.json").exists()
    resumed = zygote.train(here, "resume=x")
    assert (resumed.code, resumed.err) == (0, "")
    same(here / "runs/x", whole)


@pytest.mark.parametrize("place", ["runs/x/stage-1", "."])
def test_resumed_by_the_name_of_a_stage(place, zygote, here, whole, same):
    """It goes on with the stages that follow."""
    (here / "two.yaml").write_text(TWO)
    zygote.train(here, "--config", "two.yaml", "run.name=x", moment=MOMENTS["in stage 1"])
    folder = here / "runs/x/stage-1" if place == "." else here
    assert zygote.train(folder, f"resume={place}").code == 0
    for name in ("out", "err"):
        (folder / name).unlink()
    same(here / "runs/x", whole)


def test_a_signal_names_the_command_that_goes_on(two, train, here, whole, same, monkeypatch):
    import gcp.engine.train

    update, calls = gcp.engine.train.update, []

    def counted(*args):
        calls.append(1)
        if len(calls) == 9:
            signal.raise_signal(signal.SIGTERM)
        update(*args)

    monkeypatch.setattr(gcp.engine.train, "update", counted)
    answer = two("run.name=x")
    assert answer.code == 128 + signal.SIGTERM
    command = answer.out.rpartition("  gcp train ")[2].split()
    assert train(*command).code == 0
    same(here / "runs/x", whole)


def test_a_signal_at_the_last_step_of_a_stage_ends_the_run_before_the_next(two, train, here, whole, same, monkeypatch):
    import gcp.engine.train

    update, calls = gcp.engine.train.update, []

    def counted(*args):
        calls.append(1)
        if len(calls) == 6:
            signal.raise_signal(signal.SIGINT)
        update(*args)

    monkeypatch.setattr(gcp.engine.train, "update", counted)
    answer = two("run.name=x")
    assert answer.code == 130 and answer.out.endswith(
        "stopped before stage 2. Continue with\n  gcp train resume=runs/x\n"
    )
    assert not (here / "runs/x/stage-2").exists()
    assert train("resume=x").code == 0
    same(here / "runs/x", whole)


def test_a_path_with_spaces_and_letters_of_all_kinds(two):
    words = ["stages.1.train.epochs=1", "stages.2.train.epochs=1"]
    assert two("run.dir='a b/ü 😀'", "run.name=x", *words).code == 0


def test_the_output_names_the_stage(two):
    answer = two("run.name=x", "stages.1.train.epochs=1", "stages.2.train.epochs=1")
    for number in (1, 2):
        assert f"stage      {number} of 2\nrun        runs/x/stage-{number}\n" in answer.out
        assert f"\ntest split, stage {number} " in answer.out
    assert answer.out.endswith("result     runs/x/result.json\n")


def test_a_finished_run_says_so_and_keeps_its_result(copy, train, whole):
    answer = train("resume=x")
    assert answer.code == 0 and re.search(r"runs/x/stage-2 is finished.*\ntest split, stage 2", answer.out)
    assert (copy / "result.json").read_bytes() == (whole / "result.json").read_bytes()


@pytest.mark.parametrize("text", ["", "{", '{"test": {}}', "\udcff"])
@pytest.mark.parametrize("place", [".", "stage-2"])
def test_a_damaged_result_is_made_again(place, text, copy, train, whole):
    """That of the run, or of its last stage: the run is scored again, and nothing is trained."""
    (copy / place / "result.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    weights = torch.load(copy / "stage-2" / "last.pt", weights_only=True)["model"]
    assert train("resume=x").code == 0
    again, before = (json.loads((folder / place / "result.json").read_text()) for folder in (copy, whole))
    assert again["test"] == before["test"]
    same = torch.load(copy / "stage-2" / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(weights[key], same[key]) for key in weights)


def test_the_last_stage_can_be_extended(copy, train):
    assert train("resume=x", "stages.2.train.epochs=3").code == 0
    result = json.loads((copy / "result.json").read_text())
    assert result["test"]["final"]["step"] == 15
    assert "is finished" in train("resume=x").out


def test_a_stage_whose_successor_has_begun_keeps_its_length(copy, train, refused):
    text = refused(train("resume=x", "stages.1.train.epochs=3"))
    assert re.search(r"stages\.1\.train\.epochs.* 3;.* 2,.*stage 2", text)
    text = refused(train("resume=x", "train.epochs=9"))
    assert re.search(r"train\.epochs: .*'train\.epochs=9'.*every stage", text)
    assert "stages.2.optim.lr: cannot change" in refused(train("resume=x", "stages.2.optim.lr=1"))


def test_a_stage_that_is_gone(copy, train, refused):
    (copy / "stage-1" / "result.json").unlink()
    assert re.search(r"runs/x/stage-1 .*result\.json.*stage 2", refused(train("resume=x")))


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["stages.2.model.freeze=[features.layer9]"], ["stage 2: unknown part", "'features.layer9'"]),
        (
            ["stages.1.model.freeze=[head.x]", "stages.2.model.freeze=[features.layer9]"],
            ["\n  stage 1: unknown part", "\n  stage 2: unknown part"],
        ),
        (
            ["model.hidden=[4]", "stages.2.model.dropout=0.1", "stages.1.model.dropout=0"],
            ["stage 2: stage 1 is of another model"],
        ),
        (
            ["model.backbone=resnet18", "stages.2.data.image_size=64"],
            ["cannot be built:\n  stage 1: a covariance needs"],
        ),
        (["data.per_class=9999"], ["per_class=9999 asks for more"]),
        (["stages.2.train.drop_last=true", "stages.2.train.batch_size=64"], ["stage 2: 40 images make no batch of 64"]),
        (["model.pretrained=no.pt"], ["no checkpoint at no.pt"]),
        (["stages.2.optim.lrr=1"], ["stages.2.optim.lrr: ", "stages.2.optim.lr?"]),
    ],
)
def test_what_is_refused_leaves_no_run(words, messages, two, refused, here):
    text = refused(two(*words))
    assert all(message in text for message in messages), text
    assert not (here / "runs").exists() or not list((here / "runs").iterdir())


def test_a_stage_that_fails_can_be_resumed(two, train, refused, here, whole, same, monkeypatch):
    import gcp.engine.train

    update, calls = gcp.engine.train.update, []

    def broken(state, norm, clip):
        calls.append(1)
        if len(calls) == 9:
            from gcp.errors import NonFiniteError

            raise NonFiniteError("inf")
        update(state, norm, clip)

    monkeypatch.setattr(gcp.engine.train, "update", broken)
    assert refused(two("run.name=x")) == "inf"
    assert load(here / "runs/x/stage-2/last.pt")["progress"]["step"] == 2
    assert train("resume=x").code == 0
    same(here / "runs/x", whole)


@pytest.mark.parametrize(("removed", "expected"), [([], "stage-2/best.pt"), (["stage-2"], "stage-1/best.pt")])
def test_evaluate_takes_the_last_stage_that_has_a_checkpoint(removed, expected, copy, evaluate):
    for name in removed:
        for path in (copy / name).glob("*.pt"):
            path.unlink()
    answer = evaluate("--checkpoint", "x")
    assert answer.code == 0 and f"checkpoint  runs/x/{expected}\n" in answer.out


def test_evaluate_before_there_is_any(copy, evaluate, refused):
    for path in copy.glob("stage-*/*.pt"):
        path.unlink()
    assert refused(evaluate("--checkpoint", "x")) == "runs/x has no checkpoint yet"
