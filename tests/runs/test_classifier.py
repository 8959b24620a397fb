"""A run: what it leaves, how it is stopped, and that nothing is lost by what goes wrong in it."""

import csv
import errno
import json
import os
import re
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import gcp.engine.train
from gcp.data import ImageSet
from gcp.engine.folder import RunFolder

FILES = {"best.pt", "config.yaml", "curves.png", "environment.json", "last-1.pt", "last-2.pt", "last.pt"}
FILES |= {"metrics.csv", "result.json"}


@pytest.fixture
def at_update(monkeypatch):
    """Do something before the N-th optimizer step of this process."""

    def at(number, action):
        calls, update = [], gcp.engine.train.update

        def counted(state, *args):
            calls.append(state)
            if len(calls) == number:
                action(state)
            update(state, *args)

        monkeypatch.setattr(gcp.engine.train, "update", counted)

    return at


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_a_run_leaves(uninterrupted):
    names = {file.name for file in uninterrupted.iterdir() if not file.name.startswith((".", "events."))}
    assert names == FILES
    assert len(list(uninterrupted.glob("events.out.tfevents.*"))) == 1
    config = yaml.safe_load((uninterrupted / "config.yaml").read_text())
    assert config["run"]["name"] == "whole" and config["optim"]["weight_decay"] == 1e-4  # defaults are resolved
    assert json.loads((uninterrupted / "environment.json").read_text())["packages"]["numpy"] == np.__version__
    with open(uninterrupted / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6"), ("3", "9")]


def test_tensorboard(uninterrupted):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(uninterrupted))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"epoch/train_loss", "epoch/val_accuracy", "epoch/images_per_second", "epoch/lr_head"} <= set(tags)
    assert [point.step for point in events.Scalars("epoch/val_loss")] == [3, 6, 9]


def test_result(uninterrupted):
    result = json.loads((uninterrupted / "result.json").read_text())
    assert result["test"]["final"]["count"] == 360 and result["validation"]["best"]["count"] == 143
    assert re.search(r"validation.*test: every fifth", result["selection"])


def test_names_of_runs_without_a_name(small, here):
    for number in (1, 2):
        answer = small("train.epochs=1")
        assert answer.code == 0 and re.search(rf"run +runs/digits-resnet8_cifar-svd_pade-{number}\n", answer.out)
    assert len(list((here / "runs").iterdir())) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_a_checkpoint(number, small, train, at_update, here, same_runs, uninterrupted):
    at_update(4, lambda _: signal.raise_signal(number))
    answer = small("run.name=x", "checkpoint.every=100 %")
    assert answer.code == 128 + number
    head, _, command = answer.out.rpartition("\n  gcp ")
    assert head.endswith("stopped at step 4. Continue with")
    assert torch.load(here / "runs/x/last.pt", weights_only=True)["progress"]["step"] == 4
    resumed = train(*shlex.split(command)[1:])
    assert resumed.code == 0 and "continuing runs/x at step 4, epoch 2\n" in resumed.out
    assert not (here / "runs/x/last-2.pt").exists()  # one at the signal, one at the end
    same_runs(here / "runs/x", uninterrupted)


def test_a_second_signal_ends_the_run_at_once(small, train, at_update, here, same_runs, uninterrupted):
    at_update(6, lambda _: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
    assert small("run.name=x").code == 130
    assert train("resume=x").code == 0
    same_runs(here / "runs/x", uninterrupted)


def test_a_finished_run_says_so(small, train, here):
    ended = small("run.name=x", "train.epochs=1")
    before = {file.name: file.stat().st_mtime_ns for file in (here / "runs/x").iterdir()}
    answer = train("resume=runs/x")
    table = ended.out[ended.out.index("test split") : ended.out.index("curves ")]
    assert answer == (0, f"runs/x is finished.\n{table}", "")
    assert {file.name: file.stat().st_mtime_ns for file in (here / "runs/x").iterdir()} == before


def test_a_finished_run_can_be_extended(small, train, at_update, here, monkeypatch):
    assert small("run.name=x").code == 0
    monkeypatch.setattr("gcp.runs.classifier.score_run", lambda *_: signal.raise_signal(signal.SIGINT))
    assert train("resume=x", "train.epochs=4").code == 130  # before the new result: the old one is not its own
    monkeypatch.undo()
    monkeypatch.chdir(here)
    answer = train("resume=x")
    assert answer.code == 0 and "is finished" not in answer.out and "continuing runs/x at step 12" in answer.out
    assert json.loads((here / "runs/x/result.json").read_text())["test"]["final"]["step"] == 12
    assert "is finished" in train("resume=x").out


def test_fewer_epochs_than_are_begun(small, train, refused, at_update, here):
    at_update(5, lambda _: signal.raise_signal(signal.SIGINT))
    assert small("run.name=x").code == 130
    assert re.search(r"train\.epochs.* 1;.* 2,", refused(train("resume=x", "train.epochs=1")))
    assert "epochs: 3\n" in (here / "runs/x/config.yaml").read_text()
    assert train("resume=x", "train.epochs=2").code == 0


def test_nan_in_the_features(small, train, refused, here, monkeypatch, same_runs, uninterrupted):
    from gcp.models.backbone import Backbone

    calls, features = [], Backbone._features

    def broken(self, images):
        calls.append(self.training)
        return features(self, images) * (float("nan") if sum(calls) > 8 else 1.0)

    monkeypatch.setattr(Backbone, "_features", broken)
    text = refused(small("run.name=x"))
    assert re.search("step 5, epoch 2, batches 3-4: ", text)
    assert "the features of sample 0" in text and re.search(r"non-finite: .*features \(Backbone\)", text)
    assert len(text.splitlines()) == 1 and len(list((here / "runs/x").glob("*.pt"))) == 3
    monkeypatch.setattr(Backbone, "_features", features)
    assert train("resume=x").code == 0
    same_runs(here / "runs/x", uninterrupted)


def test_a_learning_rate_without_bounds(small, refused, here):
    text = refused(small("run.name=x", "optim.lr=1e30"))
    assert text.startswith("training stopped at step 2, epoch 1, batches 3-4: ") and "lower optim.lr" in text


def test_a_full_disk(small, train, refused, here, monkeypatch, same_runs, uninterrupted):
    saves, save = [], torch.save

    def limited(*args):
        saves.append(args)
        return save(*args) if len(saves) < 5 else full_disk()

    monkeypatch.setattr("torch.save", limited)
    monkeypatch.setattr("gcp.drawing.curves.draw_curves", full_disk)  # must not hide the fault
    text = refused(small("run.name=x"))
    assert text.startswith("cannot write checkpoint runs/x/last.pt: [Errno 28] No space left on device")
    assert text.endswith("The previous last.pt is whole.")
    monkeypatch.setattr("torch.save", save)
    assert train("resume=x").code == 0
    same_runs(here / "runs/x", uninterrupted)


def test_a_damaged_checkpoint_is_passed_over(small, train, refused, here, at_update, caplog, same_runs, uninterrupted):
    at_update(6, lambda _: signal.raise_signal(signal.SIGINT))
    assert small("run.name=x").code == 130
    last, older = here / "runs/x/last.pt", here / "runs/x/last-1.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    assert train("resume=x").code == 0
    assert (
        "last.pt is damaged or truncated" in caplog.text and "Continuing from runs/x/last-1.pt instead" in caplog.text
    )
    same_runs(here / "runs/x", uninterrupted)
    for path in (here / "runs/x").glob("last*.pt"):
        path.write_bytes(path.read_bytes()[:1000])
    sizes = {path.name: path.stat().st_size for path in (here / "runs/x").iterdir()}
    text = refused(train("resume=x"))
    assert text.startswith("no whole checkpoint is left:\n") and text.count("is damaged or truncated") == 3
    assert {path.name: path.stat().st_size for path in (here / "runs/x").iterdir()} == sizes
    assert older.is_file()


def test_one_process_at_a_time(small, train, refused, at_update, here):
    at_update(3, lambda _: signal.raise_signal(signal.SIGINT))
    small("run.name=x")
    other = RunFolder(here / "runs/x")
    other.lock()
    assert re.search("runs/x .*another process; .*wait", refused(train("resume=x")))
    other.unlock()
    assert train("resume=x").code == 0


@pytest.fixture
def folder_run(small, image_folder):
    """Start a run on real image files."""
    words = ["run.name=x", "data.name=folder", f"data.root={image_folder}", "data.workers=0", "data.image_size=16"]
    return lambda *more: small(*words, *more)


def test_an_empty_class(folder_run, image_folder, refused, here):
    (image_folder / "train" / "ant").mkdir()
    broken = image_folder / "train" / "cat" / "3.png"
    broken.write_bytes(b"no image")
    text = refused(folder_run())
    assert f"no image in class 'ant' of {image_folder}/train." in text and f"cannot read the image {broken}" in text
    assert not (here / "runs").exists(), "a run that cannot begin leaves nothing"


def test_unreadable_images(folder_run, train, image_folder, refused, monkeypatch):
    """As of a larger data set, whose images are not all decoded before training: those of a batch in one message."""
    monkeypatch.setattr("gcp.data.checks.faults.FEW", 0)
    paths = [image_folder / "train" / "cat" / f"{number}.png" for number in (2, 3, 4)]
    whole = [path.read_bytes() for path in paths]
    for path in paths:
        path.write_bytes(b"no image")
    text = refused(folder_run("data.per_class=8", "train.batch_size=16", "train.accumulate=1"))
    assert text.startswith("cannot read the image ") and "check" in text.splitlines()[0]
    assert "2 more of this batch:" in text and all(str(path) in text for path in paths)
    for path, content in zip(paths, whole, strict=True):
        path.write_bytes(content)
    assert train("resume=x").code == 0


def test_a_reading_process_that_is_killed(folder_run, train, image_folder, refused, monkeypatch):
    """One message, exit code 2, and how to go on; the program's own handlers of signals stay."""
    before = signal.getsignal(signal.SIGCHLD)
    read, parent, seen = ImageSet.read, os.getpid(), []

    def deadly(images, indices, seeds=None):
        seen.append(seeds is not None)
        if os.getpid() != parent and sum(seen) == 5:  # in the third epoch, after a checkpoint
            while not Path("runs", "x", "last.pt").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        return read(images, indices, seeds)

    monkeypatch.setattr(ImageSet, "read", deadly)
    answer = folder_run("data.per_class=8", "data.workers=1")
    assert "a process that reads images has died" in refused(answer) and "data.workers" in answer.err
    assert "Nothing is lost" in answer.out and "resume=" in answer.out
    assert signal.getsignal(signal.SIGCHLD) == before
    monkeypatch.undo()


def test_data_that_have_changed(folder_run, train, image_folder, refused, at_update, here):
    at_update(2, lambda _: signal.raise_signal(signal.SIGINT))
    assert folder_run().code == 130
    for split in ("train", "val", "test"):
        (image_folder / split / "dog").rename(image_folder / split / "fox")
    assert re.search("class 1 .*'dog'.*'fox'", refused(train("resume=x")))
    for split in ("train", "val", "test"):
        (image_folder / split / "fox").rename(image_folder / split / "dog")
        (image_folder / split / "ant").mkdir()
        for number in range(8):
            path = image_folder / split / "ant" / f"{number}.png"
            path.write_bytes((image_folder / "train" / "cat" / "0.png").read_bytes())
    assert re.search(r"last\.pt .* 2 classes.* 3\b", refused(train("resume=x")))
    for split in ("train", "val", "test"):
        for path in (image_folder / split / "ant").iterdir():
            path.unlink()
        (image_folder / split / "ant").rmdir()
    assert train("resume=x").code == 0


def test_an_image_that_is_gone(folder_run, train, image_folder, refused, at_update, here):
    """The held-out images would be others, and those of before would be trained on."""
    at_update(2, lambda _: signal.raise_signal(signal.SIGINT))
    assert folder_run().code == 130
    path = image_folder / "train" / "dog" / "3.png"
    whole = path.read_bytes()
    path.unlink()
    text = refused(train("resume=x"))
    assert re.search(r"last\.pt .*other images: train \(", text) and "Put the files back" in text
    path.write_bytes(whole)
    assert train("resume=x").code == 0


def test_without_validation_the_final_weights_are_the_result(small, train, evaluate, here):
    answer = small("run.name=x", "data.val_fraction=0", "train.epochs=2")
    assert answer.code == 0 and "0 validation" in answer.out and "best on validation" not in answer.out
    result = json.loads((here / "runs/x/result.json").read_text())
    assert list(result["test"]) == ["final"] and "validation" not in result
    last, best = (torch.load(here / f"runs/x/{name}.pt", weights_only=True) for name in ("last", "best"))
    assert all(torch.equal(best["model"][key], last["ema"][key]) for key in last["ema"])
    assert train("resume=x").out.startswith("runs/x is finished.")
    assert evaluate("--checkpoint", "x", "split=val").code == 2
