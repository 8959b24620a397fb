"""Whitening layers against batch norm, plain ZCA by autograd, the published iteration, and finite differences."""

import pickle
from copy import deepcopy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional as F

import gcp
from gcp.errors import GCPError, NonFiniteError, OptionError, ShapeError, UnknownNameError
from gcp.gradients import RULES
from gcp.layers import Whitening2d, replace_batch_norm
from gcp.layers.whitening import SOLVERS, fewest_groups, inverse_root

EPS = 1e-3


def maps(batch=3, channels=6, height=4, width=5, dtype=torch.float64, seed=0):
    """Correlated channels with a mean."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    x = torch.einsum("ij,bjhw->bihw", mix, torch.randn(batch, channels, height, width, generator=generator).double())
    return (x + 2).to(dtype)


def columns(x):
    """(C, N), the samples of each channel."""
    return x.transpose(0, 1).flatten(1)


def covariance(x):
    return torch.cov(columns(x), correction=0)


def plain(x, weight, bias, groups, inverse_root):
    """Whitening in operations that autograd differentiates, with any inverse root (c, c) -> (c, c)."""
    parts = []
    for X in columns(x).chunk(groups):
        X = X - X.mean(1, keepdim=True)
        P = X @ X.mT / X.shape[1] + EPS * torch.eye(len(X), dtype=X.dtype)
        parts.append(inverse_root(P) @ X)
    out = torch.cat(parts).view(x.shape[1], len(x), *x.shape[2:]).transpose(0, 1)
    return out * weight[:, None, None] + bias[:, None, None]


def by_eigenvalues(P):
    values, V = torch.linalg.eigh(P)
    return V @ torch.diag(values.rsqrt()) @ V.mT


def by_iteration(P, steps=5):
    """IterNorm as published: Z <- (3 Z - Z^3 A) / 2 of A = P / tr P."""
    A = P / P.trace()
    Z = torch.eye(len(P), dtype=P.dtype)
    for _ in range(steps):
        Z = (3 * Z - Z @ Z @ Z @ A) / 2
    return Z / P.trace().sqrt()


def layer(channels=6, groups=2, dtype=torch.float64, **options):
    made = Whitening2d(channels, groups, eps=EPS, **options).to(dtype)
    with torch.no_grad():
        made.weight.copy_(torch.linspace(0.5, 1.5, channels))
        made.bias.copy_(torch.linspace(-1, 1, channels))
    return made


def results(function, x, *parameters):
    """Output and gradients of a loss that tells all entries apart."""
    x = x.detach().clone().requires_grad_(True)
    out = function(x)
    loss = (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum() + (out**3).sum()
    return [out, *torch.autograd.grad(loss, [x, *parameters])]


def same(found, wanted, atol=1e-10):
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=atol)


@pytest.mark.parametrize(
    ("options", "inverse_root"),
    [
        ({}, by_eigenvalues),
        ({"rule": "pade"}, by_eigenvalues),
        ({"solver": "newton_schulz"}, by_iteration),
        ({"solver": "newton_schulz", "iterations": 3}, lambda P: by_iteration(P, 3)),
        ({"solver": "polar_express"}, by_eigenvalues),
    ],
    ids=["exact", "pade", "IterNorm", "3 steps", "polar_express"],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_equals_plain_autograd(options, inverse_root, groups):
    norm = layer(groups=groups, **options)
    found = results(norm, maps(), norm.weight, norm.bias)
    wanted = results(lambda x: plain(x, norm.weight, norm.bias, groups, inverse_root), maps(), norm.weight, norm.bias)
    same(found, wanted, atol=1e-5 if options.get("solver") == "polar_express" else 1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(3, 4, 2, 3), (1, 4, 1, 3)], ids=["full rank", "fewer samples than channels"])
def test_gradcheck(solver, shape):
    x = maps(*shape).requires_grad_(True)
    norm = layer(4, 1, solver=solver)
    assert torch.autograd.gradcheck(lambda x, *_: norm(x), (x, norm.weight, norm.bias), atol=1e-6)


def test_gradcheck_without_parameters():
    norm = Whitening2d(4, eps=EPS, affine=False).double()
    assert torch.autograd.gradcheck(norm, (maps(2, 4).requires_grad_(True),))


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_rule(rule):
    """The gradient of the inverse root is the rule's gradient of the root for -S G S."""
    norm, x = layer(groups=1, rule=rule), maps()
    out, gradient, *_ = results(norm, x, norm.weight, norm.bias)
    assert bool(gradient.isfinite().all()) and bool(out.isfinite().all())
    exact = results(layer(groups=1), x)
    if rule in ("exact", "original", "pade", "truncate"):
        same([out, gradient], exact, atol=1e-8)
    elif rule != "top_n":  # an approximation backward, the same layer forward
        same([out], exact[:1])


@pytest.mark.parametrize("rule", ["exact", "pade", "taylor", "power_iteration", "truncate"])
def test_inverse_root_is_the_function_of_the_spectrum(rule):
    mixed = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    P, G = mixed @ mixed.mT / 9, torch.randn(2, 5, 5, dtype=torch.float64)
    leaf = P.clone().requires_grad_()
    wanted = gcp.matrix_function(leaf, "inverse_sqrt", ridge=EPS, rule=rule)
    root = inverse_root("eig", rule, {})
    S, saved = root.forward(P, EPS)
    G = (G + G.mT) / 2
    same([S, root.gradient(G, saved)], [wanted, *torch.autograd.grad(wanted, leaf, G)])


def test_top_n_leaves_the_dropped_directions_out():
    norm = Whitening2d(6, 1, rule="top_n", keep=4).double()
    values = torch.linalg.eigvalsh(covariance(norm(maps())))
    assert values[:2].abs().max() < 1e-9 and (values[2:] - 1).abs().max() < 1e-3


@pytest.mark.parametrize("solver", SOLVERS)
def test_channels_leave_white(solver):
    x = maps(8, 6, 10, 10)
    options = {"iterations": 20} if solver == "newton_schulz" else {}
    out = Whitening2d(6, 1, solver=solver, **options).double()(x)
    assert columns(out).mean(1).abs().max() < 1e-12
    assert (covariance(out) - torch.eye(6)).abs().max() < 1e-3


def test_groups_of_one_channel_are_batch_norm():
    norm, reference = Whitening2d(6, groups=6).double(), nn.BatchNorm2d(6).double()
    for seed in range(3):
        same(results(norm, maps(seed=seed)), results(reference, maps(seed=seed)))
    torch.testing.assert_close(norm.running_covariance.flatten(), reference.running_var)
    torch.testing.assert_close(norm.running_mean, reference.running_mean)
    assert norm.num_batches_tracked == reference.num_batches_tracked == 3
    same(results(norm.eval(), maps(seed=9)), results(reference.eval(), maps(seed=9)))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_evaluation_equals_training_at_convergence(momentum):
    x, norm = maps(8, 6, 8, 8), layer(momentum=momentum)
    for _ in range(400):
        out = norm(x)
    torch.testing.assert_close(norm.eval()(x), out, rtol=0, atol=2e-2)  # N / (N - 1) of the covariance
    assert (covariance(norm(x)) - covariance(out)).abs().max() < 1e-2


def test_statistics_of_the_batch_in_evaluation():
    norm = Whitening2d(6, track_running_stats=False).double()
    assert norm.running_mean is None and set(norm.state_dict()) == {"weight", "bias"}
    same([norm.eval()(maps())], [norm.train()(maps())])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["zero", "constant", "twins", "dead", "one map", "few samples", "large", "tiny"])
def test_degenerate_batches_are_finite(kind, dtype, solver):
    x = {
        "zero": torch.zeros(2, 6, 3, 3),
        "constant": torch.full((2, 6, 3, 3), 7.3),
        "twins": maps(4)[:, [0, 0, 1, 1, 2, 2]],
        "dead": maps(4) * torch.tensor([1, 0, 1, 1, 0, 1.0])[:, None, None],
        "one map": maps(1),
        "few samples": maps(1, 6, 1, 2),
        "large": 1e6 + 1e3 * maps(4),
        "tiny": 1e-12 * maps(4),
    }[kind].to(dtype)
    norm = Whitening2d(6, 2, solver=solver).to(dtype)
    found = results(norm, x, norm.weight, norm.bias)
    assert all(bool(tensor.isfinite().all()) for tensor in found)
    assert bool(norm.eval()(x).isfinite().all())
    if kind in ("zero", "constant"):
        assert found[0].abs().max() < 1e-2


def test_float32_is_accurate_where_the_mean_is_large():
    x = maps(8, 6, 8, 8) + 1000
    found, wanted = Whitening2d(6)(x.float()).double(), Whitening2d(6).double()(x.float().double())
    assert (found - wanted).abs().max() < 5e-3 * wanted.abs().max()
    assert (covariance(found) - covariance(wanted)).abs().max() < 1e-2


def test_several_slices_equal_one(monkeypatch):
    x, norm = maps(7), layer()
    wanted = results(norm, x, norm.weight, norm.bias)
    for images in (1, 2, 3):
        monkeypatch.setattr("gcp.layers.zca.SLICE", images * x[0].numel() * 8)
        same(results(norm, x, norm.weight, norm.bias), wanted)


def test_memory_formats_and_types():
    norm, x = Whitening2d(6), maps(dtype=torch.float32)
    wanted = norm(x)
    last = norm(x.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, wanted)
    strided = torch.stack([x, x], -1)[..., 0]
    torch.testing.assert_close(norm(strided), wanted)
    for mode in (True, False):
        norm.train(mode)
        half = norm(x.bfloat16())
        assert half.dtype == torch.bfloat16
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = norm(x)
        assert inside.dtype == torch.float32
        torch.testing.assert_close(inside, norm(x), rtol=0, atol=0.05 if not mode else 1e-5)
    x = x.bfloat16().requires_grad_(True)
    norm(x).sum().backward()
    assert x.grad.dtype == torch.bfloat16


def test_inputs_are_left_alone():
    x, norm = maps(), layer()
    before = x.clone()
    results(norm, x, norm.weight, norm.bias)
    assert torch.equal(x, before)


def test_a_double_backward_raises():
    x, norm = maps().requires_grad_(True), layer()
    (gradient,) = torch.autograd.grad((norm(x) ** 3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        torch.autograd.grad(gradient.square().sum(), x)


def test_evaluation_follows_every_edit_of_the_statistics():
    norm, x = layer(), maps()
    norm(x)
    norm.eval()
    before = norm(x)
    norm.running_covariance.mul_(4)
    assert not torch.allclose(norm(x), before)
    fresh = layer().eval()
    fresh.load_state_dict(norm.state_dict())
    same([fresh(x), deepcopy(norm)(x), pickle.loads(pickle.dumps(norm))(x)], [norm(x)] * 3)
    assert torch.equal(fresh.whitening, norm.whitening)


def test_evaluation_exports():
    norm, x = layer(dtype=torch.float32), maps(dtype=torch.float32)
    norm(x)
    norm.eval()
    program = torch.export.export(norm, (x,))
    graphs = [module.graph for module in program.graph_module.modules() if hasattr(module, "graph")]
    calls = [str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function"]
    assert "aten.conv2d.default" in calls and not any("eigh" in call for call in calls)
    torch.testing.assert_close(program.module()(x), norm(x))


def test_takes_the_state_of_a_batch_norm():
    reference, x = nn.BatchNorm2d(6).double(), maps()
    reference(x)
    norm = Whitening2d(6, 2).double().eval()
    state = reference.state_dict()
    norm.load_state_dict(state)
    assert "running_var" in state
    same([norm(x)], [reference.eval()(x)])


class Twice(nn.Module):
    """One batch norm in two places."""

    def __init__(self):
        super().__init__()
        self.first = nn.BatchNorm2d(6)
        self.again = self.first
        self.other = nn.Sequential(BatchNormAct2d(6, eps=1e-3, momentum=0.3, act_layer=nn.SiLU))

    def forward(self, x):
        return self.other(self.again(self.first(x)))


def trained():
    torch.manual_seed(0)
    model = Twice()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    for _ in range(3):
        model(torch.randn(4, 6, 5, 5))
    return model


def test_replacing_keeps_function_and_parameters():
    model, x = trained(), torch.randn(2, 6, 5, 5)
    parameters, wanted = list(model.parameters()), deepcopy(model).eval()(x)
    replaced = replace_batch_norm(model, "all", group_size=3)
    assert replaced is model and [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert isinstance(model.first, Whitening2d) and model.first is model.again and model.training
    assert model.other[0].eps == 1e-3 and model.other[0].momentum == 0.3 and model.other[0].groups == 2
    torch.testing.assert_close(model.eval()(x), wanted)
    model.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in parameters)


def test_which_batch_norms_are_replaced():
    model = replace_batch_norm(trained())
    assert isinstance(model.first, Whitening2d) and isinstance(model.other[0], nn.BatchNorm2d)
    model = replace_batch_norm(trained().eval(), ["other.0"], solver="newton_schulz")
    assert isinstance(model.other[0], Whitening2d) and not model.other[0].training
    assert isinstance(replace_batch_norm(nn.BatchNorm2d(4, affine=False)), Whitening2d)
    with pytest.raises(UnknownNameError, match=r"other\.1.*Did you mean 'other\.0'"):
        replace_batch_norm(trained(), "other.1")
    with pytest.raises(OptionError, match="has no nn"):
        replace_batch_norm(nn.Linear(2, 2))


def test_a_named_layer_called_first_is_not_the_word():
    assert replace_batch_norm(trained(), ["first"]).first.groups == 1


def test_training_compiles():
    norm, x = layer(), maps()
    wanted = results(norm, x, norm.weight, norm.bias)
    torch.compiler.reset()
    compiled = torch.compile(norm, backend="aot_eager")
    same(results(compiled, x, norm.weight, norm.bias), wanted)


@pytest.mark.parametrize("channels, size, groups", [(256, 64, 4), (6, 4, 2), (7, 4, 7), (64, 64, 1), (3, 64, 1)])
def test_fewest_groups(channels, size, groups):
    assert fewest_groups(channels, size) == groups == Whitening2d(channels, group_size=size).groups


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda: Whitening2d(6, 4), "groups is 4.*6 channels"),
        (lambda: Whitening2d(6, 0), "groups"),
        (lambda: Whitening2d(0), "channels"),
        (lambda: Whitening2d(6, eps=0), "eps"),
        (lambda: Whitening2d(6, solver="newton_shulz"), "newton_schulz"),
        (lambda: Whitening2d(6, solver="mpa"), "polar_express"),
        (lambda: Whitening2d(6, rule="pad"), "pade"),
        (lambda: Whitening2d(6, solver="newton_schulz", rule="pade"), "brings its own backward"),
        (lambda: Whitening2d(6, degree=3), "degree"),
        (lambda: Whitening2d(6, precision="float16"), "precision"),
        (lambda: Whitening2d(6)(torch.zeros(2, 5, 3, 3)), r"\(B, 6, H, W\)"),
        (lambda: Whitening2d(6)(torch.zeros(1, 6, 1, 1)), "two samples"),
        (lambda: Whitening2d(6)(torch.zeros(2, 6, 3, 3, dtype=torch.int32)), "floating"),
    ],
)
def test_faults_name_what_is_allowed(make, pattern):
    with pytest.raises(GCPError, match=pattern):
        make()
    assert issubclass(ShapeError, GCPError)


def test_non_finite_features_are_refused():
    with pytest.raises(NonFiniteError):
        Whitening2d(6)(maps() * torch.inf)


def test_trains_a_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(replace_batch_norm(model), nn.Linear(8, 2))
    x, y = torch.randn(32, 3, 8, 8), torch.arange(32) % 2
    x[y == 1, 0] += 1
    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
