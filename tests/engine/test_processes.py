"""Training in several processes against one, in float64: nothing but the order of the sums differs."""

from dataclasses import replace

import pytest
import torch

from gcp.data import Loader
from gcp.data.rank_slice import RankSlice
from gcp.engine import rng
from gcp.engine.batch_norm import synchronise
from gcp.engine.distributed import ALONE, reduce_step
from gcp.engine.evaluate import evaluate
from gcp.engine.train import Events, fit
from gcp.errors import NonFiniteError

CPU = torch.device("cpu")


def train(toy, group, batch):
    """The toy run in float64 without dropout: weights and averages, and the rows of the table."""
    rng.seed_all(0)
    model = toy.model(dropout=0).double()
    state = toy.state(synchronise(model, CPU) if group.world > 1 else model)
    rank_slice = RankSlice(group.rank, group.world, neighbour=True)
    loader = Loader(toy.dataset(dtype=torch.float64), batch, train=True, seed=1, rank_slice=rank_slice)
    fit(state, loader, toy.step_options, toy.factor, toy.epochs, CPU, Events(), group=group)
    tensors = [t.double().numpy() for module in (state.model, state.ema.module) for t in module.state_dict().values()]
    rows = [(row["step"], row["train_loss"], row["train_accuracy"]) for row in state.progress.history]
    return tensors, rows


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("batch", [5, 6])
def test_the_weights_are_those_of_one_process(world, batch, toy, together):
    """20 images: batches of 5 make unequal slices, of 6 a last one with fewer images than processes."""
    wanted, rows = train(toy, ALONE, batch)
    for tensors, found in together(world, lambda group: train(toy, group, batch)):
        for mine, theirs in zip(tensors, wanted, strict=True):
            assert torch.allclose(torch.as_tensor(mine), torch.as_tensor(theirs), rtol=1e-10, atol=1e-13)
        assert torch.allclose(torch.tensor(found), torch.tensor(rows), rtol=1e-12)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("batch", [7, 50, 200])
def test_scores_are_those_of_one_process_to_the_last_bit(world, batch, toy, together):
    """On 101 images, which no number of processes or batches divides."""
    model = toy.model()

    def body(group):
        loader = Loader(toy.dataset(101), batch, train=False, rank_slice=RankSlice(group.rank, group.world))
        return evaluate(model, loader, CPU, group=group).as_dict()

    whole = evaluate(model, Loader(toy.dataset(101), batch, train=False), CPU).as_dict()
    assert whole["count"] == 101
    assert together(world, body) == [whole] * world


def test_a_request_of_one_is_the_decision_of_all(together):
    def body(group):
        one = group.rank == 1
        met = reduce_step(group, torch.tensor([1.5, 2.0], dtype=torch.float64), False, one, one)
        return met.sums.tolist(), met.broken, met.stop, met.save

    assert together(2, body) == [([3.0, 4.0], False, True, False)] * 2  # the clock is that of rank 0


def test_no_process_makes_a_step_that_is_broken_in_one(toy, together):
    """The exchange spreads a NaN; what one process alone has seen is in `meet`."""

    def body(group):
        rng.seed_all(0)
        state = toy.state(toy.model(dropout=0))
        loader = Loader(toy.dataset(), 20, train=True, seed=1, rank_slice=RankSlice(group.rank, group.world))
        if group.rank == 1:
            state.model.classifier.weight.register_hook(lambda gradient: gradient * float("nan"))
        before = [p.detach().clone() for p in state.model.parameters()]
        try:
            fit(state, loader, replace(toy.step_options, mixup=0, cutmix=0), toy.factor, 1, CPU, Events(), group=group)
        except NonFiniteError as error:
            return str(error), all(map(torch.equal, before, state.model.parameters()))

    (one, kept), (other, also) = together(2, body)
    assert kept and also and "step 1, epoch 1, batch 1" in one and "gradient norm nan" in other

    def broken_of(group):
        return reduce_step(group, torch.zeros(2), group.rank == 1, False, False).broken

    assert together(2, broken_of) == [True] * 2
