"""`monitor.spectrum=true`: what it leaves in the run folder, and that the run is the same."""

import csv
import re
import signal

import pytest
from run_fixtures import needs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gcp.callbacks.monitor.table import COLUMNS

WATCHED = ("monitor.spectrum=true", "monitor.every=2 steps")


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("gcp.callbacks.monitor.plot.draw", lambda *_: None)


def rows(folder):
    with open(folder / "spectrum.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_run_with_a_table_beside_it(small, here, same_runs, uninterrupted):
    answer = small("run.name=x", *WATCHED)
    assert (answer.code, answer.err) == (0, "")
    same_runs(here / "runs/x", uninterrupted)
    table = rows(here / "runs/x")
    assert list(table[0]) == list(COLUMNS) and [int(row["step"]) for row in table] == [1, 2, 4, 6, 8]
    assert [int(row["epoch"]) for row in table] == [1, 1, 2, 2, 3]
    assert {(row["samples"], row["channels"]) for row in table} == {("4", "8")}
    remark = "spectrum   step 1: 4 samples for 8 channels: at most 3 of 8 eigenvalues are non-zero"
    assert answer.out.count("samples for 8 channels") == 1 and remark in answer.out
    board = EventAccumulator(str(here / "runs/x"))
    board.Reload()
    tags = [tag for tag in board.Tags()["scalars"] if tag.startswith("spectrum/")]
    assert set(tags) == {f"spectrum/{column}" for column in COLUMNS[2:]}
    events = [(event.step, event.value) for event in board.Scalars("spectrum/condition")]
    assert events == [(int(row["step"]), pytest.approx(float(row["condition"]))) for row in table]
    assert not (uninterrupted / "spectrum.csv").exists()


def test_killed_and_resumed(zygote, here):
    words = ["--config", "small.yaml", *WATCHED, "monitor.every=1 steps"]
    assert zygote.train(here, *words, "run.name=whole").code == 0
    death = "gcp.engine.train:update:6:after"  # step 6 is neither saved nor observed yet
    assert zygote.train(here, *words, "run.name=x", moment=death).code == -signal.SIGKILL
    assert [row["step"] for row in rows(here / "runs/x")] == list("12345")
    with open(here / "runs/x/spectrum.csv", "a") as file:
        file.write("6,2,0.1")  # a torn line
    assert zygote.train(here, "resume=x").code == 0
    whole = (here / "runs/whole/spectrum.csv").read_text()
    assert (here / "runs/x/spectrum.csv").read_text() == whole and len(whole.splitlines()) == 10


@needs("hybrid")
def test_the_head_that_pools_is_the_one_observed(small, here):
    hybrid = ("head.name=newton_schulz", "hybrid.to=svd_exact", "hybrid.at=4 steps")
    assert small("run.name=x", *hybrid, "monitor.spectrum=true", "monitor.every=1 steps").code == 0
    shares = [float(row["rule_share"]) for row in rows(here / "runs/x")]
    assert min(shares[:4]) > 1e-3 and max(shares[4:]) < 1e-5


def test_it_can_be_switched_on_later(small, train, here):
    assert small("run.name=x", "train.epochs=1", "schedule.name=constant").code == 0
    answer = train("resume=x", "train.epochs=2", "monitor.spectrum=true", "monitor.every=1 epochs")
    assert answer.code == 0 and [row["step"] for row in rows(here / "runs/x")] == ["6"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("monitor.evry=5", r"monitor\.evry.*monitor\.every\?"),
        ("monitor.every=0", "monitor.every: got 0 "),
        ("monitor.spectrum=5", "monitor.spectrum: got 5 "),
    ],
)
def test_a_mistake(small, refused, word, message):
    assert re.search(message, refused(small(word)))
