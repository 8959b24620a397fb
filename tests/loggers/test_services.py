"""Weights & Biases, MLflow and Trackio with their real packages, offline. `bash scripts/test_loggers.sh` has them all;
elsewhere those that are not installed are left out, and pytest says which.
"""

import random
import sys

import numpy as np
import pytest
import torch

from gcp.engine.log import RunLog
from gcp.engine.state import Progress
from gcp.loggers import create_loggers

HINT = "the package is not installed; bash scripts/test_loggers.sh runs this test in an environment of its own"
SETTINGS = {"optim.lr": 0.1, "model.freeze": ["a"], "run.name": None}


def process():
    """What a service has to leave as it was: random states, threads of torch, hooks."""
    states = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
    return states, torch.get_num_threads(), sys.excepthook, sys.stdout, sys.stderr


def record(folder, name, options, begin, end):
    """The records of steps `begin` to `end` of a run by one logger; the same process may do so several times."""
    progress, before = Progress(step=begin, epoch=begin), process()
    made = create_loggers([name], {name: options})
    journal = RunLog(folder, 4, 4, progress, 1, loggers=made, name="a", settings=SETTINGS)
    for step in range(begin + 1, end + 1):
        progress.step, progress.count, progress.seconds = step, 10 * step, float(step)
        journal.step(progress, {"head": 0.1}, torch.tensor([10.0 * step, 0.0], dtype=torch.float64))
    journal.record("callback", {"step": end, "value": 2.5}, "what it says")
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    journal.result({"top1": 50.0}, end, images, ["0 one, predicted two", "1 a/b: c"])
    journal.close()
    assert process() == before
    assert list(journal._loggers) == ["csv", name]  # not switched off
    return made[name]


def test_wandb(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason=HINT)

    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    options = {"mode": "offline", "project": "birds", "tags": ["a"]}
    for begin, end in ((0, 2), (2, 3)):
        logger = record(tmp_path, "wandb", options, begin, end)
        assert "wandb sync" in logger.place
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2 and len({file.name for file in files}) == 1  # one run, by its id
    written = b"".join(file.read_bytes() for file in files)
    for key in ("step/loss", "lr/head", "callback/value", "callback/text", "test/top1", "test images", "optim.lr"):
        assert key.encode() in written, key
    assert wandb.run is None


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason=HINT)
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    try:
        mlflow.MlflowClient(tracking_uri=uri)
    except Exception:  # mlflow-skinny: files, or a server
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = f"file:{tmp_path}/mlruns"
    for begin, end in ((0, 2), (2, 3)):
        record(tmp_path, "mlflow", {"tracking_uri": uri, "experiment": "birds"}, begin, end)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("birds").experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "a"
    assert run.data.params["optim.lr"] == "0.1"
    history = client.get_metric_history(run.info.run_id, "step/loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 1.0), (3, 1.0)]
    assert run.data.metrics["test/top1"] == 50.0 and run.data.metrics["callback/value"] == 2.5
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"callback", "test images"}


def test_trackio(tmp_path, monkeypatch):
    pytest.importorskip("trackio", reason=HINT)
    from trackio import sqlite_storage, utils

    for module in (utils, sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    for begin, end in ((0, 2), (2, 3)):
        logger = record(tmp_path, "trackio", {"project": "birds"}, begin, end)
        assert "trackio show" in logger.place
    storage = sqlite_storage.SQLiteStorage
    (name,) = storage.get_runs("birds")
    assert name.startswith("a-")
    logs = storage.get_logs("birds", name)
    assert [log["step"] for log in logs if "step/loss" in log] == [1, 2, 3]
    assert [log["test/top1"] for log in logs if "test/top1" in log] == [50.0, 50.0]
