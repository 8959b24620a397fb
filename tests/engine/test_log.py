import csv
import io
import re

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gcp.engine import checkpoint, log
from gcp.engine.log import RunLog
from gcp.engine.metrics import heading, write_metrics
from gcp.engine.state import Progress
from gcp.engine.train import Events

CLOCKS = ("seconds", "images_per_second", "data_wait")


class Killed(BaseException):
    pass


def run(toy, folder, seed=0, die_at=None, save_every=0, interval=1):
    """The toy run with its journal; continues from the folder's checkpoint."""
    state = toy.state(seed=seed)
    if found := checkpoint.load_latest(folder):
        state.load_state_dict(found[1])
    journal = RunLog(folder, toy.epochs, 12, state.progress, interval)

    def die(state):
        if state.progress.step == die_at:
            raise Killed

    events = Events(
        validate=lambda: {"top1": 50.0, "loss": 1.0},
        log=journal,
        callbacks=[toy.Watch(after=die)],
        save=lambda: checkpoint.save(folder / "last.pt", state.state_dict()),
        evaluate_every=4,
        save_every=save_every,
    )
    try:
        toy.train(state, events)
    finally:
        journal.close()
    return state


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def plain(table):
    return [{key: value for key, value in row.items() if key not in CLOCKS} for row in table]


def events(folder):
    board = EventAccumulator(str(folder))
    board.Reload()
    return {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def folders(tmp_path, *names):
    made = [tmp_path / name for name in names]
    for folder in made:
        folder.mkdir()
    return made


def test_the_table_of_a_resumed_run_is_that_of_a_whole_one(toy, tmp_path):
    whole, broken = folders(tmp_path, "whole", "broken")
    run(toy, whole)
    assert [row["epoch"] for row in rows(whole)] == ["1", "2", "3"]
    with pytest.raises(Killed):
        run(toy, broken, 0, die_at=6, save_every=5)  # dies in epoch 2, continues in it
    assert [row["epoch"] for row in rows(broken)] == ["1"]
    with pytest.raises(Killed):
        run(toy, broken, 1, die_at=9, save_every=5)  # after the end of epoch 2, whose row is repeated
    assert [row["epoch"] for row in rows(broken)] == ["1", "2"]
    run(toy, broken, 2, save_every=5)
    assert plain(rows(broken)) == plain(rows(whole))


def test_a_row_from_after_the_checkpoint_is_dropped_at_once(tmp_path):
    row = {"epoch": 1, "step": 4}
    write_metrics(tmp_path / "metrics.csv", [row, {"epoch": 2, "step": 8}])
    RunLog(tmp_path, 3, 12, Progress(step=6, epoch=1, history=[row])).close()
    assert rows(tmp_path) == [{"epoch": "1", "step": "4"}]


@pytest.mark.parametrize("step", [0, 3])
def test_also_where_the_checkpoint_has_no_row_yet_or_there_is_none(tmp_path, step):
    write_metrics(tmp_path / "metrics.csv", [{"epoch": 1, "step": 4}])
    RunLog(tmp_path, 3, 12, Progress(step=step, batch=step)).close()
    assert not (tmp_path / "metrics.csv").exists()


def number(folder, place):
    """Give the new event file a name that sorts by `place`: by itself it sorts by the second of its making."""
    (new,) = (path for path in folder.glob("events.out.tfevents.*") if len(path.name) > len("events.out.tfevents.00"))
    new.rename(folder / f"events.out.tfevents.{place:02d}")


def test_tensorboard_has_every_step_once_after_a_resume(toy, tmp_path):
    whole, broken = folders(tmp_path, "whole", "broken")
    run(toy, whole)
    for place, death in enumerate((2, 9)):  # the first before there is a checkpoint
        with pytest.raises(Killed):
            run(toy, broken, 0, die_at=death, save_every=5)
        number(broken, place)
    run(toy, broken, 2, save_every=5)
    number(broken, 2)
    expected, got = events(whole), events(broken)
    assert set(got) == set(expected)
    for tag, points in expected.items():
        assert [step for step, _ in got[tag]] == [step for step, _ in points], tag
        if tag.split("/")[1] not in CLOCKS:
            assert [value for _, value in got[tag]] == pytest.approx([value for _, value in points]), tag
    assert [step for step, _ in got["step/loss"]] == list(range(1, 13))
    assert [step for step, _ in got["epoch/val_accuracy"]] == [4, 8, 12]
    assert got["lr/features"] == [(t + 1, pytest.approx(0.05 / (t + 1))) for t in range(12)]


@pytest.mark.parametrize("interval", [1, 3, 5, 7])
def test_a_point_is_the_mean_since_the_last_one_of_its_epoch(tmp_path, interval):
    """Step number s adds ten images of loss s each; five steps make an epoch. No wall clock: a second per step."""
    progress = Progress()
    journal = RunLog(tmp_path, 4, 20, progress, interval)
    expected = {}
    begin = 1
    for step in range(1, 21):
        progress.step, progress.count = step, progress.count + 10
        progress.seconds += 1
        progress.waited += 0.25
        progress.loss_sum += 10 * step
        journal.step(progress, {"head": 0.1}, torch.tensor([progress.loss_sum, 0.0], dtype=torch.float64))
        if step % interval == 0:
            expected[step] = sum(range(begin, step + 1)) / (step + 1 - begin)
            begin = step + 1
        if step % 5 == 0:
            progress.start_epoch()
            begin = step + 1
    journal.close()
    got = events(tmp_path)
    assert dict(got["step/loss"]) == pytest.approx(expected)
    assert dict(got["step/images_per_second"]) == pytest.approx(dict.fromkeys(expected, 10.0))
    assert dict(got["step/data_wait"]) == pytest.approx(dict.fromkeys(expected, 25.0))


def journal_of(folder, waits, begin=0, seconds=20.0):
    """Lines that a journal says at the end of epochs with these shares of waiting, after `begin` of them."""
    rows = [
        {"epoch": n, "step": 4 * n, "seconds": seconds} | ({} if w is None else {"data_wait": w})
        for n, w in enumerate(waits, 1)
    ]
    progress = Progress(step=4 * begin, epoch=begin, history=rows[:begin])
    journal = RunLog(folder, len(rows), 4 * len(rows), progress, advice="do this.")
    said = []
    journal.say = said.append
    for row in rows[begin:]:
        journal.epoch(row)
    journal.close()
    return [text for text in said if "waited" in text]


def test_the_advice_on_waiting_comes_once(tmp_path):
    assert journal_of(tmp_path, [3.0, 10.0]) == []
    (advice,) = journal_of(tmp_path, [3.0, 34.4, 50.0])
    assert re.search(r"\bwaited .*\b34 % .*epoch 2: do this\.$", advice)
    assert journal_of(tmp_path, [3.0, 34.4, 50.0], begin=1) == [advice]
    assert journal_of(tmp_path, [3.0, 34.4, 50.0], begin=2) == []  # said before the run was resumed


def test_no_advice_on_fractions_of_a_second(tmp_path):
    assert journal_of(tmp_path, [90.0, 90.0], seconds=1.0) == []
    assert len(journal_of(tmp_path, [90.0, 90.0], seconds=1.2)) == 1


def test_a_run_that_began_without_the_column_goes_on(tmp_path):
    assert len(journal_of(tmp_path, [None, 3.0, 20.0], begin=1)) == 1
    assert [row["data_wait"] for row in rows(tmp_path)] == ["", "3.0", "20.0"]


def test_a_table_on_stdout_and_no_bar_without_a_terminal(toy, tmp_path, capsys):
    run(toy, tmp_path)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == heading() and len(lines) == 4
    assert [text.split()[0] for text in lines[1:]] == ["1", "2", "3"]
    assert err == ""


def test_a_bar_on_a_terminal(toy, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("gcp.engine.log.REFRESH", 0.0)
    run(toy, tmp_path)
    shown = terminal.getvalue()
    assert "epoch 1/3" in shown and "/12 " in shown
    assert "loss " in shown and "accuracy " in shown and "images/s" in shown


def test_lines_in_an_epoch_where_there_is_no_terminal(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(log, "LINES", 0.0)
    run(toy, tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if " left" in line]
    assert len(lines) == 12
    assert re.fullmatch(
        r"  \d\d:\d\d:\d\d epoch 1/\d, step 2/12, loss \d\.\d{4}, accuracy .* %, \d+ images/s, 0 min \d\d s left",
        lines[1],
    )


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 min 00 s"), (61, "1 min 01 s"), (7290, "2 h 01 min")])
def test_durations(seconds, text):
    assert log._duration(seconds) == text


def test_the_result_in_tensorboard(tmp_path):
    board = EventAccumulator(str(tmp_path))
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    journal = RunLog(tmp_path, 1, 7, Progress(), settings={"optim.lr": 0.1, "model.freeze": ["a"], "x": None})
    journal.result({"top1": 50.0}, 7, images, ["a", "b"])
    journal.close()
    board.Reload()
    assert [(each.step, each.value) for each in board.Scalars("test/top1")] == [(7, 50.0)]
    assert board.Tags()["images"] == ["test images/a", "test images/b"]
    assert len(list(tmp_path.iterdir())) == 1
    assert "_hparams_/session_start_info" in board.summary_metadata
