"""Nearest-orthogonal gradient and optimal learning rate around a step: what they see, and that nothing else changes."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from gcp.callbacks.conditioning.callback import ConditionedStep
from gcp.data import Loader
from gcp.data.rank_slice import RankSlice
from gcp.engine import rng
from gcp.engine.batch_norm import synchronise
from gcp.engine.distributed import ALONE
from gcp.engine.step import update
from gcp.engine.train import Events, fit
from gcp.errors import OptionError
from gcp.heads import create_head
from gcp.heads.reduction import trained_weight
from gcp.models import Classifier

CPU = torch.device("cpu")
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum and decay": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, 0.05),
}


def polar(G):
    U, _, Vh = torch.linalg.svd(G.double().flatten(1), full_matrices=False)
    return (U @ Vh).view_as(G).to(G.dtype)


def distance(W):
    W = W.detach().double().flatten(1)
    return float((W @ W.mT - torch.eye(len(W), dtype=W.dtype)).square().sum().sqrt())


def weight_and_gradient(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 6, 1, 1, generator=generator, dtype=dtype))
    weight.grad = torch.randn(4, 6, 1, 1, generator=generator, dtype=dtype)
    return weight


def test_nog_is_a_step_along_the_polar_factor():
    weight = weight_and_gradient()
    wanted = weight.detach() - 0.1 * polar(weight.grad)
    optimizer = torch.optim.SGD([weight], 0.1)
    ConditionedStep(optimizer, lambda: weight, nog=True).attach()
    optimizer.step()
    assert torch.allclose(weight, wanted, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_paper_is_a_learning_rate_of_this_layer_alone(momentum):
    """As published: the layer in a parameter group whose rate is the formula's, at every step."""
    weight, other = weight_and_gradient(), nn.Parameter(torch.ones(3, dtype=torch.float64))
    twin, groups = weight.detach().clone(), {"momentum": momentum, "weight_decay": 1e-2}
    ours = torch.optim.SGD([weight, other], 0.3, **groups)
    theirs = torch.optim.SGD([twin], 0.3, **groups)
    ConditionedStep(ours, lambda: weight, olr="paper").attach()
    generator, used = torch.Generator().manual_seed(1), []
    for _ in range(6):
        other.grad, weight.grad = torch.ones_like(other), weight.detach().sin()
        weight.grad += torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        twin.grad = weight.grad.clone()
        w, g = twin.flatten(), twin.grad.flatten()
        eta = float((w @ w) * (g @ w) / ((w @ w) * (g @ g) + 2 * (g @ w) ** 2))
        theirs.param_groups[0]["lr"] = eta if 0 < eta < 0.3 else 0.3
        used.append(theirs.param_groups[0]["lr"])
        ours.step(), theirs.step()
        assert torch.allclose(weight, twin, atol=1e-12)
    assert min(used) < 0.3 == max(used)  # both branches
    assert ours.param_groups[0]["lr"] == 0.3 and not torch.allclose(other, torch.ones_like(other))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("nog", [False, True])
def test_exact_never_makes_it_worse_whatever_the_optimizer(optimizer, nog, dtype):
    weight = weight_and_gradient(dtype)
    optimizer = optimizer([weight])
    ConditionedStep(optimizer, lambda: weight, nog, "exact").attach()
    generator, distances = torch.Generator().manual_seed(1), [distance(weight)]
    for _ in range(60):
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=dtype)
        optimizer.step()
        distances.append(distance(weight))
    assert all(after <= before for before, after in pairwise(distances))
    assert distances[-1] < distances[0]


class Conditioned:
    """The toy run with a reduction."""

    def __init__(self, toy, nog=True, olr="exact", dropout=0.3, dtype=torch.float32, group=ALONE, **state):
        rng.seed_all(0)
        head = create_head("newton_schulz", 4, dim=3)
        features = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        model = Classifier(features, head, nn.Linear(head.out_features, 3), 3, dropout).to(dtype)
        self.toy, self.group = toy, group
        self.state = toy.state(synchronise(model, CPU) if group.world > 1 else model, **state)
        ConditionedStep(self.state.optimizer, lambda: trained_weight(model.head.reduction), nog, olr, group).attach()

    @property
    def weight(self):
        return trained_weight(self.state.model.head.reduction)

    def train(self, loader=None, step_options=None, after=None, **events):
        loader, step_options = loader or self.toy.loader(), step_options or self.toy.step_options
        events = Events(callbacks=[self.toy.Watch(after=after)], **events)
        return fit(self.state, loader, step_options, self.toy.factor, self.toy.epochs, CPU, events, group=self.group)


def test_the_norm_that_is_clipped_is_that_of_the_raw_gradient(toy):
    """The other layers are scaled by the norm of all raw gradients; the polar factor has no scale to be clipped."""
    run = Conditioned(toy, olr=None, ema=None)
    state, generator = run.state, torch.Generator().manual_seed(0)
    raw = {}
    for name, parameter in state.model.named_parameters():
        parameter.grad = raw[name] = torch.randn(parameter.shape, generator=generator)
    norm = torch.stack([g.square().sum() for g in raw.values()]).sum().sqrt()
    wanted = {name: gradient / norm for name, gradient in raw.items()}
    wanted["head.reduction.0.weight"] = polar(raw["head.reduction.0.weight"])
    seen = {}
    state.optimizer.register_step_pre_hook(
        lambda *_: seen.update({n: p.grad.clone() for n, p in state.model.named_parameters()})
    )
    update(state, norm, clip=1.0)
    for name, gradient in wanted.items():
        assert torch.allclose(seen[name], gradient, atol=1e-5), name


def test_a_step_that_the_loss_scale_leaves_out_is_left_out(toy):
    run = Conditioned(toy, ema=None)
    state = run.state
    state.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = run.weight.detach().clone()
    for value in (torch.inf, 1.0):
        for parameter in state.model.parameters():
            parameter.grad = torch.full_like(parameter, value)
        state.scaler.scale(torch.ones(()))
        state.scaler.unscale_(state.optimizer)
        update(state, torch.tensor(value), clip=None)
        assert torch.equal(run.weight, before) == (value == torch.inf)
    assert state.scaler.get_scale() == 2.0


def test_a_run_is_conditioned_at_every_step(toy):
    """With clipping, accumulation, mixing, an average, momentum and weight decay."""
    run, distances = Conditioned(toy), []
    assert run.train(after=lambda state: distances.append(distance(run.weight)))
    assert len(distances) == 12 and all(b <= a for a, b in pairwise(distances))
    plain = Conditioned(toy, nog=False, olr=None)
    assert plain.train() and not torch.equal(plain.weight, run.weight)


@pytest.mark.parametrize("olr", [None, "paper", "exact"])
def test_the_weights_are_those_of_one_process(toy, together, olr):
    step_options = replace(toy.step_options, mixup=0.0, cutmix=0.0)

    def train(group):
        run = Conditioned(toy, olr=olr, dropout=0, dtype=torch.float64, group=group)
        rank_slice = RankSlice(group.rank, group.world)
        run.train(Loader(toy.dataset(dtype=torch.float64), 6, train=True, seed=1, rank_slice=rank_slice), step_options)
        return [t.double().numpy() for m in (run.state.model, run.state.ema.module) for t in m.state_dict().values()]

    alone = train(ALONE)
    first, second = together(2, train)
    for one, two, three in zip(alone, first, second, strict=True):
        assert (two == three).all()
        assert torch.allclose(torch.as_tensor(one), torch.as_tensor(two), rtol=1e-9, atol=1e-12)


def test_continued_to_the_same_bits(toy, where, compare):
    """Nothing is carried from step to step outside of what a checkpoint holds."""
    whole = Conditioned(toy)
    whole.train()
    first, saved = Conditioned(toy), {}
    first.train(
        after=lambda state: saved.update(at=state.progress.step),
        save=lambda: saved.setdefault("state", where(first.state)),
        save_every=5,
    )
    second = Conditioned(toy, seed=9)
    second.state.load_state_dict(saved["state"] | {"progress": _with_clocks(saved["state"]["progress"])})
    assert second.state.progress.step == 5 and second.train()
    assert compare(where(whole.state), where(second.state)) == []


def _with_clocks(progress):
    rows = [row | {"seconds": 0.0, "images_per_second": 0.0, "data_wait": 0.0} for row in progress["history"]]
    return progress | {"seconds": 0.0, "waited": 0.0, "history": rows}


def test_without_a_gradient_nothing_moves():
    weight = weight_and_gradient()
    before, weight.grad = weight.detach().clone(), None
    optimizer = torch.optim.SGD([weight], 0.1, weight_decay=0.1)
    ConditionedStep(optimizer, lambda: weight, True, "exact").attach()
    optimizer.step()
    assert torch.equal(weight, before)


def test_an_optimizer_without_hooks_is_refused():
    from timm.optim.lookahead import Lookahead

    weight = weight_and_gradient()
    with pytest.raises(OptionError, match=r"Lookahead.*no hooks"):
        ConditionedStep(Lookahead(torch.optim.SGD([weight], 0.1)), lambda: weight, nog=True).attach()


def test_a_reduction_without_a_weight_of_its_own_is_refused():
    head = create_head("newton_schulz", 4, dim=3, reduction="orthogonal")
    optimizer = torch.optim.SGD(head.parameters(), 0.1)
    with pytest.raises(OptionError, match="computes its weight"):
        ConditionedStep(optimizer, lambda: trained_weight(head.reduction), nog=True).attach()
