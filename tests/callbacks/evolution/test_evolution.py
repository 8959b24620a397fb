"""Widths that change between steps: when, what with them, and that a run goes on as if it had never been stopped."""

from copy import deepcopy
from functools import partial

import pytest
import torch

from gcp.callbacks.evolution.evolution import EditCalendar, Evolution, describe_edit
from gcp.data import Loader
from gcp.data.rank_slice import RankSlice
from gcp.engine import checkpoint, rng
from gcp.engine.batch_norm import synchronise
from gcp.engine.distributed import ALONE
from gcp.engine.train import Events, fit
from gcp.evolve import resize, widths
from gcp.evolve.policy.budget import Bounds, Decision
from gcp.evolve.policy.policies import SpectrumPolicy

CPU = torch.device("cpu")
LAST = 12  # optimizer steps of the toy run, four an epoch
PLAN = {3: ("features.3", 4, 7), 6: ("features.0", 4, 6), 9: ("features.3", 7, 5)}  # step: dimension, before, after


def model_of(toy, **options):
    """Two convolutions: the width between them is that of a backbone, the second one's is pooled."""
    return toy.model(torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 1), torch.nn.BatchNorm2d(4), **options)


class Planned:
    """A policy that has made up its mind: the first edit of the plan that is possible."""

    def __init__(self, plan=PLAN):
        self.plan, self.left = plan, []

    def __call__(self, model, images, events_left):
        self.left.append(events_left)
        now = widths(model, images[0])
        found = [d for d in self.plan.values() if now[d[0]] == d[1]]
        return [Decision(*found[0], "planned")] if found else []


@pytest.fixture
def images(toy):
    return lambda dtype=torch.float32: [toy.dataset(20, dtype).images[:8], toy.dataset(20, dtype).images[8:16]]


@pytest.fixture
def evolution(images):
    def evolution(policy=None, every=3, **options):
        return Evolution(policy or Planned(), EditCalendar(every, 0, LAST), options.pop("images", images), **options)

    return evolution


def shape(state):
    return {name: tuple(p.shape) for name, p in state.model.named_parameters()}


@pytest.mark.parametrize(
    ("calendar", "steps"),
    [
        (EditCalendar(3, 0, 12), [3, 6, 9, 12]),
        (EditCalendar(3, 4, 11), [6, 9]),
        (EditCalendar(5, 5, 5), [5]),
        (EditCalendar(5, 6, 9), []),
    ],
)
def test_calendar(calendar, steps):
    assert [step for step in range(14) if calendar.due(step)] == steps
    for step in range(14):
        assert calendar.left(step) == sum(other >= step for other in steps)


def test_records_and_everything_that_follows(toy, evolution):
    state, policy = toy.state(model_of(toy)), Planned()
    steps, records = [], []
    evolving = evolution(policy)

    def edit(state):
        records.extend(evolving.make(state))

    def note(state):
        steps.append((state.progress.step, shape(state)))

    toy.train(state, Events(callbacks=[toy.Watch(edit, note)]))
    assert [(r["step"], r["dimension"], r["before"], r["after"]) for r in records] == [
        (3, "features.3", 4, 7),
        (6, "features.0", 4, 6),
        (9, "features.3", 7, 5),
    ]
    assert evolving.edits == records and state.version == 3
    assert policy.left == [4, 3, 2]  # the last one would lie behind the last step
    for record in records:
        assert record["error"] >= 0 and record["epoch"] == record["step"] // 4 + 1
    # three channels more are 3 * 4 weights, 3 biases, 2 * 3 of the norm, and 28 - 10 columns of three classes
    assert records[0]["parameters"] - records[0]["parameters_before"] == 12 + 3 + 6 + 18 * 3
    assert records[0]["parameters_before"] == sum(p.numel() for p in model_of(toy).parameters())
    assert [s["features.3.weight"][0] for _, s in steps] == [4] * 3 + [7] * 6 + [5] * 3
    assert {id(p) for g in state.optimizer.param_groups for p in g["params"]} == {
        id(p) for p in state.model.parameters()
    }
    assert shape(state) == {name: tuple(p.shape) for name, p in state.ema.module.named_parameters()}
    assert {group["name"].split(".")[0] for group in state.optimizer.param_groups} == {"features", "classifier"}
    assert describe_edit(records[0]).startswith("width features.3 4 -> 7 after step 3, in epoch 1: planned; output")


def test_new_momentum_is_zero_and_the_other_stays(toy, evolution):
    state = toy.state(model_of(toy), ema=None)
    toy.train(state, epochs=1)
    weight = state.model.get_parameter("features.3.weight")
    before = state.optimizer.state[weight]["momentum_buffer"].clone()
    state.progress.step = 3
    evolution().make(state)
    after = state.optimizer.state[state.model.get_parameter("features.3.weight")]["momentum_buffer"]
    assert torch.equal(after[:4], before) and torch.count_nonzero(after[4:]) == 0 and len(after) == 7


def test_resumed_around_an_edit(toy, evolution, where, compare, tmp_path):
    """Before an edit, at its very step where it is not made yet, and behind it, with other random numbers: the shape
    comes first, then the weights.
    """
    kept = {}

    def state_of(seed=0, shapes=None):
        rng.seed_all(seed)
        model = model_of(toy)
        resize(model, shapes or {}, toy.dataset().images)
        return toy.state(model, seed=seed, optimizer="adamw")

    edits = []

    def go(state, edits, **more):
        evolving = evolution(edits=edits)
        toy.train(state, Events(callbacks=[toy.Watch(evolving.make)], **more))
        return state

    def save():
        if state.progress.step in (2, 3, 4, 9):
            shapes = widths(state.model, toy.dataset().images)
            kept[state.progress.step] = deepcopy(state.state_dict() | {"widths": shapes, "edits": edits})

    state = state_of()
    expected = where(go(state, edits, save=save, save_every=1))
    assert len(kept) == 4 and len(edits) == 3
    for saved in kept.values():
        checkpoint.save(tmp_path / "last.pt", saved)
        saved = checkpoint.load(tmp_path / "last.pt")
        again = state_of(77, saved["widths"])
        again.load_state_dict(saved)
        assert compare(where(go(again, saved["edits"])), expected) == [], saved["progress"]["step"]
        assert [edit["dimension"] for edit in saved["edits"]] == [edit["dimension"] for edit in edits]


def test_a_width_that_grew_does_not_shrink_at_once(toy, evolution):
    """Growth at step 3; the policy wants it back at 6, and has to wait until 9."""

    def back_and_forth(model, images, left):
        width = widths(model, images[0])["features.3"]
        return [Decision("features.3", width, 11 - width, "undecided")]

    found = {}
    for patience in (0, 1, 2):
        state, evolving = toy.state(model_of(toy)), evolution(back_and_forth, patience=patience)
        for state.progress.step in (3, 6, 9):
            evolving.make(state)
        found[patience] = [record["step"] for record in evolving.edits]
    assert found == {0: [3, 6, 9], 1: [3, 9], 2: [3]}


def train(toy, group, evolution, images):
    """The toy run in float64 without dropout, with edits: weights, averages, and the records without measurements."""
    rng.seed_all(0)
    model = model_of(toy, dropout=0).double()
    state = toy.state(synchronise(model, CPU) if group.world > 1 else model)
    loader = Loader(
        toy.dataset(dtype=torch.float64), 5, train=True, seed=1, rank_slice=RankSlice(group.rank, group.world, True)
    )
    evolving = evolution(every=2, images=partial(images, torch.float64))
    fit(
        state,
        loader,
        toy.step_options,
        toy.factor,
        toy.epochs,
        CPU,
        Events(callbacks=[toy.Watch(lambda state: evolving.make(state, group))]),
        group=group,
    )
    tensors = [t.double().numpy() for module in (state.model, state.ema.module) for t in module.state_dict().values()]
    return tensors, [(record["dimension"], record["after"]) for record in evolving.edits]


def test_two_processes_are_one(toy, evolution, images, together):
    wanted, edits = train(toy, ALONE, evolution, images)
    assert edits == [("features.3", 7), ("features.0", 6)]
    for tensors, found in together(2, lambda group: train(toy, group, evolution, images)):
        assert found == edits
        for mine, theirs in zip(tensors, wanted, strict=True):
            assert torch.allclose(torch.as_tensor(mine), torch.as_tensor(theirs), rtol=1e-10, atol=1e-13)


def test_the_processes_have_the_tensors_of_rank_0(toy, evolution, together):
    """Also where their random numbers and images differ, and the decisions of the others are never asked for."""

    def body(group):
        rng.seed_all(group.rank)
        state = toy.state(model_of(toy))
        toy.train(state, epochs=1)
        state.progress.step = 3

        def policy(model, images, left):
            assert group.main
            return [Decision("features.3", 4, 6, ""), Decision("features.0", 4, 3, "")]

        images = [torch.randn(16, 2, 6, 6)]
        evolution(policy, images=lambda: images).make(state, group)
        moments = [value for each in state.optimizer.state.values() for value in each.values() if value is not None]
        return [t.detach().numpy() for t in (*state.model.parameters(), *state.ema.module.parameters(), *moments)]

    first, second = together(2, body)
    assert all((mine == theirs).all() for mine, theirs in zip(first, second, strict=True))


def test_torch_compile_follows(toy, evolution, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch.compiler.reset()

    def train(compile):
        rng.seed_all(0)
        state = toy.state(toy.model(torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 1), head="covariance"))
        evolving = evolution(Planned({3: ("features.3", 4, 7)}))
        events = Events(callbacks=[toy.Watch(evolving.make)])
        fit(state, toy.loader(), toy.step_options, toy.factor, 1, CPU, events, compile)
        return state.model.state_dict()

    plain, compiled = train(False), train(True)
    for name in plain:
        torch.testing.assert_close(compiled[name], plain[name], rtol=1e-4, atol=1e-6)


def test_a_spectrum_decides_the_same_again(toy, images):
    policy = SpectrumPolicy(("features",), Bounds(1), shrink_below=0.6, grow_above=0.7)
    rng.seed_all(0)
    model = model_of(toy)
    before = deepcopy(model.state_dict())
    first, second = policy(model, images(), 1), policy(model, images(), 5)
    assert first == second and first
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items()) and model.training
