"""Batch norm over two and three processes against torch's over the whole batch in one."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gcp.engine.batch_norm import SyncBatchNorm, running_statistics, synchronise, synchronised
from gcp.layers import Whitening2d, replace_batch_norm

CPU = torch.device("cpu")


def network(dtype=torch.float64):
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(5, momentum=None), BatchNormAct2d(4, act_layer=nn.SiLU), nn.BatchNorm1d(6, affine=False)]
    layers = [nn.Conv2d(3, 5, 3), norms[0], nn.ReLU(), nn.Conv2d(5, 4, 3), norms[1], nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, 6), norms[2], nn.Linear(6, 3)).to(dtype)


def batch(count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = 5 + torch.randn(count, 3, 6, 6, generator=generator, dtype=dtype)
    return x, torch.arange(count) % 3


def bounds(rank, world, count):
    return rank * count // world, (rank + 1) * count // world


def whitened(**options):
    """The network with whitening in the place of its two-dimensional batch norms."""
    return replace_batch_norm(network(), "all", eps=1e-2, **options)


BUILDS = {"batch norm": network, "whitening": whitened, "IterNorm": lambda: whitened(solver="newton_schulz")}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@pytest.mark.parametrize("world, count", [(2, 7), (3, 7), (3, 2)], ids=["2", "3", "one process without an image"])
def test_equals_one_process(world, count, build, together):
    x, y = batch(count)

    def body(group):
        model = DistributedDataParallel(synchronise(build(), CPU), gradient_as_bucket_view=True)
        for _ in range(2):
            begin, end = bounds(group.rank, group.world, count)
            loss = F.cross_entropy(model(x[begin:end]), y[begin:end], reduction="sum") / count * world
            loss.backward()
        gradients = [p.grad for p in model.parameters()]
        model.eval()
        return [t.detach().numpy() for t in (*gradients, *model.module.buffers(), model.module(x))]

    reference = build()
    for _ in range(2):
        F.cross_entropy(reference(x), y).backward()
    wanted = [*(p.grad for p in reference.parameters()), *reference.buffers(), reference.eval()(x)]
    for found in together(world, body):
        for mine, theirs in zip(found, wanted, strict=True):
            assert torch.allclose(torch.as_tensor(mine), theirs.detach(), rtol=1e-9, atol=1e-11)


def test_half_precision_takes_float32_statistics(together):
    x = (1000 + batch(8)[0]).bfloat16()

    def body(group):
        norm = synchronise(nn.Sequential(nn.BatchNorm2d(3)), CPU)
        out = norm(x[4 * group.rank : 4 * group.rank + 4])
        return out.dtype == torch.bfloat16, out.detach().float().numpy(), norm[0].running_var.numpy()

    answers = together(2, body)
    assert all(half for half, _, _ in answers)
    reference = nn.BatchNorm2d(3)
    wanted = reference(x.float())
    found = torch.cat([torch.as_tensor(out) for _, out, _ in answers])
    assert (found - wanted).abs().max() < 0.02  # one rounding to bfloat16
    assert torch.allclose(torch.as_tensor(answers[0][2]), reference.running_var, rtol=1e-4)


def test_names_tensors_and_copies_stay(together):
    def body(group):
        model = network()
        before = dict(model.state_dict(keep_vars=True))
        model = synchronise(model, CPU)
        after = dict(model.state_dict(keep_vars=True))
        copy = deepcopy(model)
        return (
            list(before) == list(after) and all(before[name] is after[name] for name in before),
            sum(isinstance(module, SyncBatchNorm) for module in model.modules()),
            all(
                torch.equal(a, b) and a is not b
                for a, b in zip(copy.state_dict().values(), before.values(), strict=True)
            ),
            [
                module.group is other.group
                for module, other in zip(model.modules(), copy.modules(), strict=True)
                if hasattr(module, "group")
            ],
        )

    for same, count, copied, groups in together(2, body):
        assert same and count == 3 and copied and groups == [True] * 3


def test_whitening_is_synchronised_and_copied(together):
    def body(group):
        model = whitened()
        alone = synchronised(nn.Sequential(Whitening2d(4)))
        model = synchronise(model, CPU)
        copy = deepcopy(model)
        with running_statistics(model):
            inside = [module.training for module in model if isinstance(module, Whitening2d)]
        shared = [module.processes.group is copy[i].processes.group for i, module in enumerate(model) if i in (1, 4)]
        return alone, synchronised(model), inside, shared, model[1].training

    assert together(2, body) == [(False, True, [False, False], [True, True], True)] * 2
