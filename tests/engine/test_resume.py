"""A run that was interrupted, however and wherever, ends with the same bits as one that was not."""

from copy import deepcopy
from dataclasses import replace

import pytest

from gcp.engine import checkpoint
from gcp.engine.log import NullLog
from gcp.engine.train import Events

LAST = 12  # optimizer steps of the toy run


class Killed(BaseException):
    """The end of the process at any place: nothing catches it."""


class Run:
    """A toy run in a folder, whose process may be ended; a new one begins with other random numbers."""

    def __init__(self, toy, folder, save_every, optimizer="sgd"):
        self.toy, self.folder, self.save_every, self.optimizer = toy, folder, save_every, optimizer
        self.improved, self.rows = [], []

    def begin(self, seed, epochs=3):
        """Build everything anew, continue from the newest checkpoint where there is one. Returns the state."""
        self.epochs = epochs
        found = checkpoint.load_latest(self.folder)
        state = self.toy.state(seed=seed if found else 0, optimizer=self.optimizer)
        if found:
            state.load_state_dict(found[1], str(found[0]))
        return state

    def go(self, state, die_at=None, stop_at=None):
        def die(state):
            if state.progress.step == die_at:
                raise Killed

        def validate():
            return {"top1": float(state.progress.step % 5), "loss": float(state.evaluated.classifier.weight.sum())}

        log = NullLog()
        log.epoch = self.rows.append
        events = Events(
            validate=validate,
            improved=lambda scores: self.improved.append((state.progress.step, scores)),
            log=log,
            callbacks=[self.toy.Watch(after=die)],
            save=lambda: checkpoint.save(self.folder / "last.pt", state.state_dict(), keep=2),
            stop=lambda: state.progress.step == stop_at,
            evaluate_every=3,
            save_every=self.save_every,
        )
        return self.toy.train(state, events, epochs=self.epochs)


@pytest.fixture
def run(toy, tmp_path):
    def make(save_every, name="run", **options):
        (tmp_path / name).mkdir()
        return Run(toy, tmp_path / name, save_every, **options)

    return make


@pytest.fixture
def whole(run, where):
    """Where an uninterrupted run ends that writes no checkpoint but the last."""

    def end(**options):
        reference = run(0, "whole", **options)
        state = reference.begin(0)
        assert reference.go(state) is True
        return where(state)

    return end


def test_the_toy_run_uses_everything_that_has_to_be_repeated(toy, where, compare):
    """Each ingredient changes the result, else the tests below would not notice that it is lost."""

    def end(**change):
        state = toy.state(seed=0)
        toy.train(state, step_options=replace(toy.step_options, **change))
        return where(state)

    plain = end()
    assert compare(plain, end()) == []
    assert compare(plain["model"], plain["ema"])
    unmixed = {"mixup": 0.0, "cutmix": 0.0}
    for other in (end(seed=4), end(mixup=0.0), end(cutmix=0.0), end(accumulate=1), end(**unmixed)):
        assert compare(plain["model"], other["model"])
    assert compare(end(**unmixed)["model"], end(**unmixed, seed=4)["model"])  # dropout alone
    assert len(toy.loader()) == 7 and plain["progress"]["step"] == LAST == toy.steps * toy.epochs


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_from_every_step_on(toy, run, whole, where, compare, tmp_path, optimizer):
    """A checkpoint of every step, in the middle of an epoch too, leads to the same end."""
    expected = whole(optimizer=optimizer)
    saving = run(1, optimizer=optimizer)
    state = saving.begin(0)
    kept = {}
    saved = state.state_dict

    def keep():
        kept[state.progress.step] = deepcopy(saved())
        return saved()

    state.state_dict = keep
    saving.go(state)
    del state.state_dict
    assert compare(where(state), expected) == []  # writing changes nothing
    assert sorted(kept) == list(range(1, LAST + 1))
    for step in range(1, LAST):
        again = run(0, f"from-{step}", optimizer=optimizer)
        checkpoint.save(again.folder / "last.pt", kept[step])
        state = again.begin(seed=100 + step)
        assert state.progress.step == step
        assert again.go(state) is True
        assert compare(where(state), expected) == [], f"from step {step}"
        assert [r["epoch"] for r in state.progress.history] == [1, 2, 3]


@pytest.mark.parametrize(
    ("save_every", "deaths"),
    [(1, range(1, 13)), (2, (1, 4, 5, 6, 9, 12)), (3, (5, 5, 5, 8, 11)), (5, (2, 4, 7, 12, 12)), (0, (3, 8, 12))],
)
def test_killed_again_and_again(toy, run, whole, where, compare, save_every, deaths):
    """At a step after which no checkpoint has been written yet, also before the first, and twice at the same."""
    expected = whole()
    broken = run(save_every)
    for seed, death in enumerate(deaths, 1):
        with pytest.raises(Killed):
            broken.go(broken.begin(seed), die_at=death)
    state = broken.begin(99)
    assert broken.go(state) is True
    assert compare(where(state), expected) == []


@pytest.mark.parametrize("stops", [(1,), (3,), (4,), (5, 6, 7), (8, 11)])
def test_stopped_on_request(toy, run, whole, where, compare, stops):
    """At a request the run writes a checkpoint after the present step, whatever the interval."""
    expected = whole()
    stopped = run(0)
    for seed, stop in enumerate(stops, 1):
        state = stopped.begin(seed)
        assert stopped.go(state, stop_at=stop) is False
        assert checkpoint.load_latest(stopped.folder)[1]["progress"]["step"] == stop
    state = stopped.begin(99)
    assert stopped.go(state) is True
    assert compare(where(state), expected) == []
    assert [row["epoch"] for row in stopped.rows] == [1, 2, 3]


def test_a_request_to_stop_at_the_last_step_ends_the_run_as_complete(run):
    last = run(0)
    assert last.go(last.begin(0), stop_at=LAST) is True


def test_a_damaged_newest_checkpoint_costs_steps_and_nothing_else(toy, run, whole, where, compare, caplog):
    expected = whole()
    broken = run(2)
    with pytest.raises(Killed):
        broken.go(broken.begin(1), die_at=7)
    newest = broken.folder / "last.pt"
    raw = newest.read_bytes()
    newest.unlink()
    newest.write_bytes(raw[: len(raw) // 2])
    state = broken.begin(2)
    assert state.progress.step == 4 and "Continuing from" in caplog.text
    assert broken.go(state) is True
    assert compare(where(state), expected) == []


def test_more_epochs_continue_a_finished_run(toy, run, where, compare):
    """With a rate that does not know the end, as if the run had been longer from the start."""
    longer, extended = run(0, "longer"), run(0, "extended")
    extended.go(extended.begin(0, epochs=2))
    state = extended.begin(5, epochs=3)
    assert state.progress.epoch == 2 and state.progress.batch == 0
    extended.go(state)
    reference = longer.begin(0, epochs=3)
    longer.go(reference)
    got, expected = where(state), where(reference)
    for key in ("model", "ema", "optimizer"):
        assert compare(got[key], expected[key], key) == []


def test_a_finished_run_is_left_as_it_is(toy, run, where, compare):
    done = run(0)
    state = done.begin(0)
    done.go(state)
    before = where(state)
    assert done.go(state) is True
    assert compare(where(state), before) == []


def test_the_same_improvements_are_announced(toy, run):
    """`best.pt` is written at the same steps with the same scores; those after a checkpoint are repeated."""
    reference, broken = run(0, "whole"), run(2)
    reference.go(reference.begin(0))
    with pytest.raises(Killed):
        broken.go(broken.begin(1), die_at=7)
    broken.go(broken.begin(2))
    assert len(reference.improved) > 1
    assert sorted(dict(broken.improved).items()) == sorted(dict(reference.improved).items())
