"""Loggers of a user's own in a run: what they are given, that they change nothing, and what becomes of broken ones."""

import ast
import json
from pathlib import Path

import pytest
import torch

import gcp
from gcp import loggers
from gcp.errors import OptionError, UnknownNameError
from gcp.loggers import LOGGERS, Logger, create_logger, create_loggers, pixels

ROOT = Path(__file__).parents[2]


def test_a_rude_and_a_broken_logger_change_no_bit(small, own, here, same_runs, caplog):
    assert small("run.name=plain", "log.to=[]").code == 0
    assert not list(Path("runs/plain").glob("events*")) and not Path("runs/plain/loggers.json").exists()
    to = "log.to=[own_loggers:Broken,tensorboard,own_loggers:Rude,own_loggers:Unstarted]"
    answer = small("run.name=logged", to, "log.every=1 steps")
    assert answer.code == 0
    same_runs("runs/plain", "runs/logged")
    warnings = [record.getMessage() for record in caplog.records if "logger" in record.getMessage()]
    assert len(warnings) == 2
    assert "own_loggers:Unstarted" in warnings[0] and "step 0" in warnings[0] and "not logged in" in warnings[0]
    assert "own_loggers:Broken" in warnings[1] and "step 4" in warnings[1] and "the server is gone" in warnings[1]
    calls = own()
    assert calls.count(("close", "failed")) == 1 and calls.count(("close", "finished")) == 1
    rows = [call for call in calls if call[0] == "step"]
    assert [step for _, step, _ in rows] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9]  # the broken one until step 4
    assert ("epoch", 9) in [call[:2] for call in calls] and ("test", 9) in [call[:2] for call in calls]
    assert ("test images", 9, 8) in calls


def test_a_resumed_run_goes_on_with_what_its_logger_kept(small, train, own, here):
    assert small("run.name=a", "train.epochs=1", "log.to=[named]", "plugins=[own_loggers]").code == 0
    assert json.loads(Path("runs/a/loggers.json").read_text()) == {"named": {"number": 1}}
    answer = train("resume=a", "train.epochs=2", "log.options.named.word=again")
    assert answer.code == 0
    assert ("start", "again", {"number": 1}, 3) in own()
    Path("runs/a/loggers.json").write_text("{")  # damaged: the records begin anew
    assert train("resume=a", "train.epochs=3", "log.to=[named,tensorboard]").code == 0
    assert ("start", "again", {}, 6) in own()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["log.to=[wandbb]"], ["log.to", "wandbb", "did you mean wandb?"]),
        (["log.to=wandb"], ["log.to", "did you mean [wandb]?"]),
        (["log.to=[wandb,wandb]"], ["log.to", "once"]),
        (["log.options.wandb.projct=a"], ["log.options.wandb", "'projct'", "Did you mean 'project'?"]),
        (["log.options.wandb.mode=ofline"], ["log.options.wandb", "mode", "Did you mean 'offline'?"]),
        (["log.options.wandbb.mode=offline"], ["log.options.wandbb", "did you mean log.options.wandb?"]),
        (["log.to=[own_loggerz:Rude]"], ["no module 'own_loggerz'", "MODULE:CLASS"]),
        (["log.to=[own_loggers:Rudd]"], ["log.to", "own_loggers has no Rudd", "Did you mean 'Rude'?"]),
        (["log.to=[own_loggers:NoLogger]"], ["own_loggers:NoLogger", "gcp.loggers.Logger"]),
        (["log.to=[named]", "plugins=[own_loggers]", "log.options.named.wird=x"], ["named", "'wird'"]),
    ],
)
def test_a_mistake_is_one_message_before_the_run(small, own, refused, words, found):
    text = refused(small(*words))
    assert all(word in text for word in found), text
    assert not list(Path("runs").glob("*")) if Path("runs").exists() else True


def test_a_package_that_is_not_there(small, here, refused, monkeypatch):
    """Also where a folder of its name lies in the working folder, as the service itself leaves it."""
    (here / "absent_service").mkdir()
    monkeypatch.syspath_prepend(str(here))
    wandb = LOGGERS["wandb"].obj
    monkeypatch.setitem(vars(LOGGERS["wandb"]), "obj", loggers.LoggerPlace(wandb.place, "absent_service"))
    text = refused(small("log.to=[tensorboard,wandb]", "run.name=none"))
    assert "pip install" in text and "[wandb]" in text and "log.to" in text
    assert not Path("runs/none").exists()


def test_every_logger_has_an_extra_or_is_a_dependency():
    project = (ROOT / "pyproject.toml").read_text()
    for name in LOGGERS:
        place = LOGGERS[name].obj
        if place.package:
            assert f'{name} = ["{place.package}' in project or f'    "{place.package}>=' in project


def test_engine_and_runs_know_no_logger_by_name():
    names = [name for name in LOGGERS if name != "csv"]
    for path in [*(ROOT / "gcp/engine").rglob("*.py"), *(ROOT / "gcp/runs").rglob("*.py")]:
        words = {
            str(value).lower()
            for node in ast.walk(ast.parse(path.read_text()))
            for field in ("id", "attr", "name", "arg", "module")
            if isinstance(value := getattr(node, field, None), str)
        }
        assert not [(path.name, word) for word in words for name in names if name in word]


def test_fit_takes_names_and_objects(tmp_path):
    rows = []

    class Kept(Logger):
        def row(self, name, row, step):
            rows.append((name, step))

    model = gcp.create_model("resnet8_cifar", head="average", num_classes=2, dim=None)
    batches = [(torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 0, 1]))]
    gcp.fit(model, batches, epochs=2, folder=tmp_path, loggers=[Kept()])
    assert rows == [("epoch", 1), ("epoch", 2)]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    with pytest.raises(OptionError, match="folder"):
        gcp.fit(model, batches, loggers=["tensorboard"])


def test_names():
    assert list(create_loggers()) == ["csv", "tensorboard"]
    assert list(create_loggers(["tensorboard", "csv"])) == ["csv", "tensorboard"]
    with pytest.raises(UnknownNameError, match="tensorboard"):
        create_logger("tensorbord")


def test_pixels():
    grey = torch.tensor([[[0.0, 0.5], [1.0, 2.0]]])
    assert pixels(grey).tolist() == [[0, 128], [255, 255]]
    assert pixels(torch.zeros(3, 4, 5, dtype=torch.uint8)).shape == (4, 5, 3)
