"""The monitor against features, spectra and gradients that are taken by hand, and the run that it looks at."""

import re
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gcp.callbacks.monitor.monitor import HeadMonitor
from gcp.callbacks.monitor.observation import rule_shares
from gcp.callbacks.monitor.remarks import remarks
from gcp.callbacks.monitor.table import COLUMNS, SpectrumTable, read_rows
from gcp.engine.callback import Callback
from gcp.engine.step import StepOptions, windows
from gcp.engine.train import Events
from gcp.heads import create_head
from gcp.models import Classifier

CPU = torch.device("cpu")
PLAIN = StepOptions(accumulate=2, seed=3)


def model(head="newton_schulz", dim=3, dropout=0.0, **options):
    torch.manual_seed(0)
    pooling = create_head(head, 4, dim, **options)
    features = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    return Classifier(features, pooling, nn.Linear(pooling.out_features, 3), 3, dropout)


def watched(toy, state, step_options=PLAIN, every=2, run=None, **options):
    """Train under observation; the rows."""
    watch = Watching(toy, state, step_options, every, **options)
    (run or toy.train)(state, Events(callbacks=[watch]), step_options=step_options)
    return watch.rows


class Watching(Callback):
    """A monitor at work, and its rows."""

    def __init__(self, toy, state, step_options, every, **options):
        self.monitor, self.rows = monitor_of(toy, state, step_options, every, **options), []

    def before_step(self, state, window, log):
        self.monitor.begin(window)

    def after_step(self, state, sums, log):
        if row := self.monitor.end():
            self.rows.append(row)


def monitor_of(toy, state, step_options=PLAIN, every=1, **options):
    return HeadMonitor(state, step_options, every, step_options.to_device(toy.loader(), 3, CPU), **options)


def newton_schulz(P, steps=5):
    """The published iteration, left to autograd."""
    identity = torch.eye(len(P), dtype=P.dtype)
    Y, Z = P / P.trace(), identity
    for _ in range(steps):
        T = (3 * identity - Z @ Y) / 2
        Y, Z = Y @ T, T @ Z
    return Y * P.trace().sqrt()


def sylvester_gradient(X, G):
    """dL/dX of the exact root of the covariance: Q S + S Q = G, by numpy."""
    Xc = X - X.mean(1, keepdims=True)
    P = Xc @ Xc.T / X.shape[1]
    values, V = np.linalg.eigh(P)
    roots = np.sqrt(values)
    S = V @ ((V.T @ G @ V) / (roots[:, None] + roots)) @ V.T
    return 2 * S @ Xc / X.shape[1]


def test_the_first_row_is_what_a_pass_by_hand_gives(toy):
    state = toy.state(model())
    twin = deepcopy(state.model).train()
    row = watched(toy, state)[0]
    window = next(windows(toy.loader(), PLAIN, 0))
    images, labels = PLAIN.to_device(toy.loader(), 3, CPU)(window[0].images, window[0].labels)
    reduction = twin.head.reduction
    maps = twin.features(images)
    before = reduction[0](maps)
    x = reduction[2](reduction[1](before))
    maps.retain_grad(), x.retain_grad()
    pooled = twin.head.pool(x)
    pooled.retain_grad()
    F.cross_entropy(twin.classifier(pooled), labels, reduction="sum").backward()
    spectra = [np.linalg.eigvalsh(np.cov(sample, bias=True)) for sample in x.detach().double().flatten(2).numpy()]
    assert (np.array(spectra) > 1e-6).all(), "full rank: 16 samples of 3 channels"

    def middle(numbers):
        return sorted(numbers)[(len(numbers) - 1) // 2]

    def close(value):
        return pytest.approx(value, rel=1e-5)

    assert (row["step"], row["epoch"], row["samples"], row["channels"], row["rank"]) == (1, 1, 16, 3, 3)
    for percent in (0, 5, 25, 50, 75, 95, 100):
        assert row[f"q{percent}"] == close(middle([np.percentile(values, percent) for values in spectra]))
    assert row["condition"] == close(middle([values[-1] / values[0] for values in spectra]))
    entropies = [-sum(p * np.log(p) for p in values / values.sum()) for values in spectra]
    assert row["effective_rank"] == close(np.exp(middle(entropies)))
    assert row["smallest_gap"] == close(middle([np.diff(values).min() / values[-1] for values in spectra]))
    assert row["gradient_before"] == close(middle(maps.grad.flatten(1).norm(dim=1).tolist()))
    assert row["gradient_after"] == close(middle(pooled.grad.norm(dim=1).tolist()))
    earlier = [np.linalg.eigvalsh(np.cov(s, bias=True)) for s in before.detach().double().flatten(2).numpy()]
    assert row["condition_before_norm"] == pytest.approx(middle([v[-1] / v[0] for v in earlier]), rel=1e-3)
    shares = []
    for sample, triangle in zip(x.detach().double().flatten(2), pooled.grad.double(), strict=True):
        X = sample.clone().requires_grad_()
        upper = newton_schulz(torch.cov(X, correction=0))[tuple(torch.triu_indices(3, 3))]
        own = torch.autograd.grad(upper, X, triangle)[0].numpy()
        G = np.zeros((3, 3))
        G[np.triu_indices(3)] = triangle.numpy()
        true = sylvester_gradient(sample.numpy(), (G + G.T) / 2)
        shares.append(np.linalg.norm(own - true) / np.linalg.norm(true))
    assert row["rule_share"] == pytest.approx(middle(shares), rel=1e-3) and row["rule_share"] > 0.01


@pytest.mark.parametrize("head", ["svd_pade", "newton_schulz", "average", "compact_bilinear"])
@pytest.mark.parametrize("dim", [None, 3])
def test_the_training_does_not_change_by_a_bit(toy, where, compare, head, dim):
    """Nor by a rehearsal; with dropout, mixing, accumulation and an average."""
    ends = []
    for compiled in (None, False, True):
        state = toy.state(model(head, dim, dropout=0.3))
        if compiled is None:
            toy.train(state)
        else:
            assert len(watched(toy, state, toy.step_options, every=1, compiled=compiled)) == 12
        hooks = [h for m in state.model.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]
        assert not hooks
        ends.append(where(state))
    assert compare(ends[0], ends[1]) == compare(ends[0], ends[2]) == []


def test_a_rehearsal_sees_what_the_step_sees(toy):
    """Dropout apart, which draws anew."""
    step_options = replace(toy.step_options, clip=None)
    seen, rehearsed = (watched(toy, toy.state(model()), step_options, every=3, compiled=c) for c in (False, True))
    assert len(seen) == len(rehearsed) == 5
    for first, second in zip(seen, rehearsed, strict=True):
        assert first == {key: pytest.approx(value, rel=1e-4) for key, value in second.items()}


def test_a_compiled_model_is_observed(toy, monkeypatch, where, compare):
    """It runs no hooks that come after its compilation."""
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="eager"))

    def fit(state, events, step_options):
        from gcp.engine.train import fit

        return fit(state, toy.loader(), step_options, toy.factor, 1, CPU, events, compile=True)

    state, blind, alone = (toy.state(model("average")) for _ in range(3))
    assert [row["step"] for row in watched(toy, state, run=fit, compiled=True)] == [1, 2, 4]
    assert len(watched(toy, blind, run=fit)) < 3, "why it is rehearsed"
    fit(alone, Events(), PLAIN)
    assert compare(where(state), where(alone)) == []


def test_the_first_step_and_every_nth(toy):
    rows = watched(toy, toy.state(model("svd_exact")), every=5)
    assert [(row["step"], row["epoch"]) for row in rows] == [(1, 1), (5, 2), (10, 3)]


def test_a_run_that_goes_on_keeps_the_steps(toy):
    state = toy.state(model("svd_exact"))
    toy.train(state, epochs=1)
    assert [row["step"] for row in watched(toy, state, every=5)] == [5, 10]


def test_the_loss_scale_is_taken_out(toy):
    plain, scaled = toy.state(model()), toy.state(model())
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    first, second = (watched(toy, state, every=100)[0] for state in (plain, scaled))
    assert first == {key: pytest.approx(value, rel=1e-6) for key, value in second.items()}


def test_norms_are_those_of_an_images_own_loss(toy):
    """Whatever the number of images in a step."""
    rows = [
        watched(toy, toy.state(model()), replace(PLAIN, accumulate=accumulate), every=100)[0] for accumulate in (1, 3)
    ]
    assert rows[0] == {key: pytest.approx(value, rel=1e-5) for key, value in rows[1].items()}


def test_half_precision_features(toy):
    """Their rounding is no fault of the rule."""
    row = watched(toy, toy.state(model("svd_exact")), replace(PLAIN, amp="bf16"), every=100)[0]
    assert 0 <= row["rule_share"] < 1e-5 and row["condition"] > 1 and row["gradient_before"] > 0


def test_frozen_parts(toy):
    state = toy.state(model())
    for part in (state.model.features, state.model.head.reduction):
        part.requires_grad_(False)
    row = watched(toy, state, every=100)[0]
    assert row["gradient_before"] is None is row["gradient_after"] is row["rule_share"] and row["condition"] > 1
    state = toy.state(model())
    state.model.head.reduction.requires_grad_(False)
    row = watched(toy, state, every=100)[0]
    assert row["gradient_before"] > 0 and row["rule_share"] > 0


def test_a_map_of_one_position_has_gradients_alone(toy):
    pooling = create_head("average", 4)
    features = nn.Sequential(nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(1))
    row = watched(toy, toy.state(Classifier(features, pooling, nn.Linear(4, 3), 3)), every=100)[0]
    assert row["condition"] is None is row["q50"] is row["rank"] is row["rule_share"]
    assert row["samples"] == 1 and row["gradient_before"] > 0 and row["gradient_after"] > 0


def test_only_some_images_are_observed(toy):
    state = toy.state(model())
    monitor = monitor_of(toy, state, images=2)
    monitor.begin(next(windows(toy.loader(), PLAIN, 0)))
    state.model.head(torch.randn(3, 4, 4, 4))
    assert len(monitor._seen.features) == len(monitor._seen.before_norm) == 2
    assert monitor.end()["gradient_before"] is None  # no backward came


@pytest.mark.parametrize("compiled", [False, True])
def test_several_processes(toy, together, compiled):
    """Rank 0 observes its slice, the others do nothing, and none waits for another."""
    from gcp.data.rank_slice import RankSlice
    from gcp.engine.batch_norm import synchronise
    from gcp.engine.train import fit

    step_options = replace(toy.step_options, mixup=0.0, cutmix=0.0, clip=None)

    def body(observed, group):
        state = toy.state(model(), ema=None)
        synchronise(state.model, CPU)
        loader = toy.loader()
        loader = type(loader)(toy.dataset(), 6, train=True, seed=1, rank_slice=RankSlice(group.rank, group.world))
        watch = Watching(toy, state, step_options, 1, world=2, compiled=compiled)
        events = Events(callbacks=[watch] if observed and group.main else [])
        fit(state, loader, step_options, toy.factor, 2, CPU, events, group=group)
        return watch.rows, {key: value.numpy() for key, value in state.model.state_dict().items()}

    (rows, weights), (_, other) = together(2, partial(body, True))
    (_, plain), _ = together(2, partial(body, False))
    assert [row["step"] for row in rows] == [1, 2, 3, 4] and all(row["rule_share"] > 0 for row in rows)
    for key, value in plain.items():
        assert np.array_equal(weights[key], value) and np.array_equal(other[key], value), key


SHARES = {
    "svd_exact": ({}, 0, 1e-6),
    "svd_pade": ({}, 0, 1e-6),
    "seb": ({}, 0, 1e-6),
    "svd_newton": ({"iterations": 3}, 1e-2, 1),
    "newton_schulz": ({"iterations": 3}, 1e-2, 1),
    "polar_express": ({}, 0, 1e-3),
}


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("channels", [6, 20])  # of 16 samples
def test_the_share_of_a_rule(name, channels):
    torch.manual_seed(1)
    options, low, high = SHARES[name]
    head = create_head(name, channels, **options)
    shares = rule_shares(head, torch.rand(3, channels, 4, 4), torch.randn(3, head.out_features))
    assert shares.dtype == torch.float64 and bool(((shares >= low) & (shares < high)).all()), shares


def test_the_share_of_float32():
    torch.manual_seed(1)
    x = torch.rand(2, 6, 4, 4) * torch.logspace(0, -2, 6)[:, None, None]
    gradient = torch.randn(2, 21)
    wide, narrow = (rule_shares(create_head("svd_pade", 6, precision=p), x, gradient) for p in ("float64", "float32"))
    assert bool((wide < 1e-6).all() and (narrow > 3 * wide).all() and (narrow < 1e-2).all())


@pytest.mark.filterwarnings("ignore")  # that it passes no gradient, which is what is measured
def test_the_share_of_a_rule_that_passes_no_gradient():
    head = create_head("svd_pi", 6, form="published")
    shares = rule_shares(head, torch.rand(2, 6, 4, 4), torch.randn(2, 21))
    assert shares.tolist() == pytest.approx([1, 1])


def test_heads_without_a_root_have_no_share():
    for name in ("average", "covariance", "bilinear"):
        head = create_head(name, 6)
        assert rule_shares(head, torch.rand(2, 6, 4, 4), torch.randn(2, head.out_features)).isnan().all()


FINE = {"samples": 196, "channels": 64, "condition": 50.0, "rule_share": 0.05, "smallest_gap": 1e-3}


@pytest.mark.parametrize(
    ("options", "change", "text"),
    [
        ({}, {}, None),
        (
            {},
            {"samples": 49, "channels": 256},
            "49 samples.* 256 channels.* 48 of 256 .*head.dim=48",
        ),
        ({}, {"samples": 64}, None),
        ({"name": "average"}, {"samples": 9, "condition": 1e15}, None),
        ({"precision": "float32"}, {"condition": 2e5}, "number 2.0e.05 .*float32 .*head.precision=float64"),
        ({}, {"condition": 2e5}, None),
        ({}, {"condition": 1e14}, "float64.* 0.1 % .*smaller head.dim"),
        ({"name": "newton_schulz"}, {"condition": 2e5}, "set head.precision=float64"),
        ({}, {"rule_share": 0.234}, "exact.* 23.4 % .*head.name=svd_exact"),
        ({}, {"smallest_gap": 1e-17}, None),
        ({"form": "published"}, {"smallest_gap": 1e-17}, "1.0e-17 of the largest .*float64.*head.form=folded"),
        ({"form": "published"}, {"smallest_gap": 1e-7}, None),
        ({}, dict.fromkeys(("condition", "rule_share", "smallest_gap")), None),
    ],
)
def test_remarks(options, change, text):
    found = list(remarks(create_head(**{"name": "svd_pade", "in_channels": 4, **options}), FINE | change).values())
    assert len(found) == (text is not None)
    if text:
        assert re.search(text, found[0]), found


def test_a_remark_is_made_once(toy):
    monitor = monitor_of(toy, toy.state(model("svd_pade")))
    small = FINE | {"samples": 9}
    assert len(monitor.remarks(small)) == 1 and monitor.remarks(small) == []
    assert "differs" in monitor.remarks(small | {"rule_share": 0.5})[0]


def table_row(step):
    return {**dict.fromkeys(COLUMNS, 0.5), "step": step, "epoch": 1, "condition": None}


def test_the_table_goes_on_where_the_run_does(tmp_path):
    path = tmp_path / "spectrum.csv"
    table = SpectrumTable(path, 0)
    assert path.read_text() == ",".join(COLUMNS) + "\n"
    for step in (1, 2, 4):
        table.add(table_row(step))
    whole = path.read_text()
    with open(path, "a") as file:
        file.write("6,2,0.")  # killed
    table = SpectrumTable(path, 2)
    table.add(table_row(4))
    assert path.read_text() == whole
    assert [row["step"] for row in read_rows(path)] == ["1", "2", "4"] and read_rows(path)[0]["condition"] == ""
    SpectrumTable(path, 0)
    assert read_rows(path) == []


@pytest.mark.parametrize("text", [b"", b"\0\0\0", b"\xff\xfe", b"step\n", b"other,columns\n1,2\n"])
def test_a_damaged_table_is_begun_anew(tmp_path, text):
    path = tmp_path / "spectrum.csv"
    path.write_bytes(text)
    SpectrumTable(path, 9).add(table_row(10))
    assert [row["step"] for row in read_rows(path)] == ["10"]
