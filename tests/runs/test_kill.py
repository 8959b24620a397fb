"""SIGKILL at any moment: a run that is resumed ends as if nothing had happened, bit for bit."""

import signal
import time

import pytest
import torch

SIGKILL = -signal.SIGKILL

MOMENTS = {
    "before the first checkpoint": "gcp.engine.train:update:2:before",
    "in the middle of an epoch": "gcp.engine.train:update:5:after",
    "between epochs, before the row": "gcp.engine.log:write_metrics:2:before",
    "with a checkpoint half written": "torch:save:4:before",
    "between the last checkpoint and the result": "gcp.runs.classifier:score_run:1:before",
}

# Each is the death of a new process, with the step that last.pt holds then; it is written after every step.
TEN_DEATHS = {
    "gcp.runs.classifier:ClassifierRun:1:before": None,  # with config.yaml alone
    "gcp.engine.train:update:1:before": None,
    "torch:save:1:before": None,  # step 1 in a half-written file
    "gcp.engine.checkpoint:_rotate:2:after": 1,  # last-1.pt linked, step 2 not yet in its place
    "gcp.engine.log:write_metrics:1:before": 2,  # best.pt of step 3 is there
    "gcp.engine.checkpoint:_sync_folder:1:before": 2,  # best.pt of step 3 once more
    "gcp.engine.train:update:2:after": 3,
    "gcp.runs.classifier:collect:1:before": 5,
    "gcp.engine.train:update:3:after": 7,
    "gcp.runs.classifier:score_run:1:before": 9,  # all steps made
}


def saved_step(folder):
    path = folder / "last.pt"
    return torch.load(path, weights_only=True)["progress"]["step"] if path.exists() else None


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_killed_once(moment, zygote, here, same_runs, uninterrupted):
    killed = zygote.train(here, "--config", "small.yaml", "run.name=x", moment=moment)
    assert killed.code == SIGKILL and not (here / "runs/x/result.json").exists()
    resumed = zygote.train(here, "resume=x")
    assert (resumed.code, resumed.err) == (0, "")
    same_runs(here / "runs/x", uninterrupted)


def test_killed_while_the_configuration_is_written(zygote, here):
    """There is nothing to resume, and nothing in the way of the same command."""
    words = ["--config", "small.yaml", "run.name=x", "train.epochs=1"]
    assert zygote.train(here, *words, moment="os:replace:1:before").code == SIGKILL
    assert "is there, but has no config.yaml" in zygote.train(here, "resume=runs/x").err
    assert zygote.train(here, *words).code == 0


def test_killed_ten_times(zygote, here, same_runs, uninterrupted):
    words = ["--config", "small.yaml", "run.name=x", "checkpoint.every=1 steps"]
    for moment, step in TEN_DEATHS.items():
        assert zygote.train(here, *words, moment=moment).code == SIGKILL, moment
        assert saved_step(here / "runs/x") == step, moment
        words = ["resume=runs/x"]
    assert zygote.train(here, *words).code == 0
    same_runs(here / "runs/x", uninterrupted)


def test_killed_from_outside(spawn, zygote, here, same_runs):
    """`python train.py`, killed once it has rewritten its checkpoint three times, wherever that finds it."""
    words = ["--config", "small.yaml", "checkpoint.every=3 steps", "train.batch_size=12"]
    words += ["schedule.name=constant", "schedule.warmup=0"]  # the same rates however many epochs follow
    folder, written = here / "runs" / "x", set()
    with spawn("train.py", *words, "run.name=x", "train.epochs=10000") as process:
        while len(written) < 4 and process.poll() is None:
            if (folder / "last.pt").exists():
                written.add((folder / "last.pt").stat().st_mtime_ns)
            time.sleep(0.001)
        process.kill()
    assert process.returncode == SIGKILL
    epochs = f"train.epochs={torch.load(folder / 'last.pt', weights_only=True)['progress']['epoch'] + 3}"
    resumed = zygote.train(here, "resume=x", epochs)
    assert resumed.code == 0 and "continuing runs/x at step " in resumed.out
    assert zygote.train(here, *words, "run.name=y", epochs).code == 0
    same_runs(folder, here / "runs" / "y")


def test_data_workers_of_a_killed_run_do_not_keep_it(zygote, here, image_folder):
    """They outlive it by seconds, in which it can be resumed already."""
    words = ["--config", "small.yaml", "run.name=x", "data.name=folder", f"data.root={image_folder}"]
    words += ["data.image_size=16", "data.workers=1", "train.mixup=0"]
    assert zygote.train(here, *words, moment="gcp.engine.train:update:2:before").code == SIGKILL
    resumed = zygote.train(here, "resume=x")
    assert (resumed.code, resumed.err) == (0, "")
