"""Heads that keep the mean: against plain autograd, where the rank drops, at any scale, and in a program."""

import pytest
import torch

import gcp
from gcp.errors import OptionError
from gcp.gradients import RULES, rule_options
from gcp.heads import check_options, create_head, head_options
from gcp.models import create_model
from gcp.models.classifier import exchange_head
from gcp.models.program import plain_head, substitute
from gcp.solvers import SOLVERS, solver_options

HEADS = ["second_moment", "gaussian"]


def normal(*shape, seed=0, mean=0.3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean


def embedding(name, x, mean_scale=1.0):
    """X X^T / M, or the Gaussian embedding by its blocks (Wang et al., 2017)."""
    X = x.flatten(2)
    R = X @ X.mT / X.shape[2]
    if name == "second_moment":
        return R
    m, b = X.mean(2), mean_scale * X.square().mean((1, 2)).sqrt()
    bm = (b[:, None] * m)[:, :, None]
    return torch.cat([torch.cat([R, bm], 2), torch.cat([bm.mT, b[:, None, None] ** 2], 2)], 1)


def plain(name, x, **options):
    """The triangle of the root by torch's own decomposition, differentiable where eigenvalues differ."""
    eigenvalues, V = torch.linalg.eigh(embedding(name, x, **options))
    Q = (V * eigenvalues.clamp(min=0).sqrt()[:, None, :]) @ V.mT
    rows, columns = torch.triu_indices(Q.shape[1], Q.shape[1])
    return Q[:, rows, columns]


@pytest.mark.parametrize("options", [{}, {"mean_scale": 2.0}])
@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("name", HEADS)
def test_equals_plain_autograd(name, side, options):
    if name == "second_moment" and options:
        return
    x = normal(3, 4, 4, 3).requires_grad_()
    out, expected = create_head(name, 4, side=side, **options)(x), plain(name, x, **options)
    torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-12)
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(out, x, g)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, x, g)[0], rtol=1e-9, atol=1e-11)


MAPS = {
    "fewer samples": lambda: normal(2, 6, 2, 2),
    "twin channels": lambda: normal(2, 4, 3, 3)[:, [0, 1, 2, 0]],
    "dead channels": lambda: normal(2, 4, 3, 3) * torch.tensor([1.0, 0, 1, 1])[:, None, None],
    "equal samples": lambda: normal(2, 4, 2, 2)[..., [0, 1, 0]],
    "constant": lambda: normal(2, 3, 1, 1).expand(-1, -1, 2, 3).contiguous(),
    "one sample": lambda: normal(2, 3, 1, 1),
    "batch of one": lambda: normal(1, 3, 3, 3),
}


@pytest.mark.parametrize("solver", ["eig", "newton_schulz"])
@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("name", HEADS)
def test_gradcheck_where_the_rank_drops(name, kind, side, solver):
    x = MAPS[kind]().requires_grad_()
    head = create_head(name, x.shape[1], side=side, solver=solver)
    assert torch.autograd.gradcheck(head, x, eps=1e-4, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(create_head(name, x.shape[1])(x), plain(name, x), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", HEADS)
def test_constant_maps_differ(name):
    """What a covariance cannot tell apart."""
    out = create_head(name, 3)(normal(2, 3, 1, 1).expand(-1, -1, 4, 4))
    assert float((out[0] - out[1]).norm()) > 0.1


def test_mean_scale_has_no_state_and_follows_the_features():
    head = create_head("gaussian", 4, mean_scale=2.0)
    x = normal(2, 4, 3, 3).float()
    corner = head(x)
    assert not head.state_dict() and head.out_features == 15
    for scale in (1e-22, 1e20):
        torch.testing.assert_close(head(scale * x) / scale, corner, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head(torch.cat([x, 5 * x]))[:2], corner)


def test_every_rule_and_solver_is_an_option():
    own = set(head_options("second_moment"))
    assert own == {"rule", "solver"} | {k for r in RULES for k in rule_options(r)} | {
        k for s in SOLVERS for k in solver_options(s)
    }
    x = normal(2, 5, 3, 3, mean=0)
    # without a mean there is nothing to keep: the root of the covariance, by every rule
    x = x - x.mean((2, 3), keepdim=True)
    for entry in RULES.list():
        head = create_head("second_moment", 5, rule=str(entry), form="folded")
        y, z = (x.clone().requires_grad_() for _ in range(2))
        g = normal(2, 15, seed=3)
        expected = create_head(entry.obj.head, 5)(z)
        torch.testing.assert_close(head(y), expected)
        grown = torch.autograd.grad(head(y), y, g)[0]
        centred = grown - grown.mean((2, 3), keepdim=True)
        torch.testing.assert_close(centred, torch.autograd.grad(expected, z, g)[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "tailor"}, r"rule .*'gaussian' .*'tailor'; allowed: .*Did you mean 'taylor'"),
        ({"solver": "newton"}, "option solver of 'gaussian' is 'newton'"),
        ({"degree": 5}, "'exact' has no option 'degree'"),
        ({"rule": "taylor", "degree": -1}, "option degree of 'taylor' is -1"),
        ({"mean_scale": 0}, r"mean_scale .*'gaussian' .*\b0; allowed: .*>= 0\.001\b"),
        ({"solver": "newton_schulz", "rule": "pade"}, r"'newton_schulz' .*own backward"),
        ({"form": "published"}, "rule 'exact' has no published form"),
        ({"degre": 5}, r"'gaussian' .*'degre'.*Did you mean 'degree'"),
    ],
)
def test_faults(options, message):
    with pytest.raises(OptionError, match=message):
        check_options("gaussian", **options)
    check_options("gaussian", rule="taylor", degree=5, side="channel", form="published", mean_scale=2)


@pytest.mark.parametrize("solver", ["eig", "polar_express"])
@pytest.mark.parametrize("name", HEADS)
def test_as_a_program(name, solver):
    head, x = create_head(name, 4, solver=solver, precision="float64"), normal(2, 4, 3, 3).float()
    torch.testing.assert_close(plain_head(head)(x), head(x))
    model = create_model("resnet18", head=name, num_classes=3, dim=8, pretrained=False, solver=solver).eval()
    difference = substitute(model, torch.rand(4, 3, 64, 64))
    assert model.arguments["solver"] == "polar_express" and model.arguments["head"] == name
    assert difference is None if solver == "polar_express" else difference.logits < 1e-2


def test_of_a_covariance_nothing_is_kept_of_the_mean():
    x = normal(1, 3, 3, 3)
    torch.testing.assert_close(gcp.create_head("svd_exact", 3)(x + 1), gcp.create_head("svd_exact", 3)(x))


CONSTANT = {"mean_unit": "batches"}


@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("options", [{"learn_mean_scale": True}, CONSTANT, {"learn_mean_scale": True, **CONSTANT}])
def test_the_constant_row_of_batches_and_learned(options, side):
    x = normal(3, 3, 2, 2)
    head = create_head("gaussian", 3, side=side, mean_scale=1.5, **options).double()
    gcp.initialize_head(head, [x])
    r = x.square().mean().sqrt() if options.get("mean_unit") else x.square().mean((1, 2, 3)).sqrt()
    b = (1.5 * r).expand(3)[:, None, None, None].expand(-1, 1, 2, 2)
    torch.testing.assert_close(head(x), plain("second_moment", torch.cat([x, b], 1)), rtol=1e-6, atol=1e-7)
    names = [name for name, _ in head.named_parameters()]
    assert names == (["mean_scale"] if options.get("learn_mean_scale") else [])
    assert ("unit" in head.state_dict()) == ("mean_unit" in options)
    for parameter in head.parameters():
        assert parameter.no_weight_decay
        of = lambda scale: torch.func.functional_call(head, {"mean_scale": scale}, (x,))  # noqa: E731
        assert torch.autograd.gradcheck(of, parameter.detach().clone().requires_grad_())
    y = x.clone().requires_grad_()
    assert torch.autograd.gradcheck(head, y, eps=1e-5, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", MAPS)
def test_the_learned_row_where_the_rank_drops(kind):
    x = MAPS[kind]()
    head = create_head("gaussian", x.shape[1], learn_mean_scale=True).double()
    of = lambda scale: torch.func.functional_call(head, {"mean_scale": scale}, (x,))  # noqa: E731
    assert torch.autograd.gradcheck(of, torch.tensor(0.7, dtype=torch.float64, requires_grad=True), atol=1e-5)


def test_a_learned_row_is_exchanged_and_exported():
    options = {"learn_mean_scale": True, **CONSTANT}
    model = create_model("resnet8_cifar", head="gaussian", num_classes=3, dim=4, **options)
    images = torch.rand(6, 3, 16, 16)
    gcp.initialize_head(model, [images])
    with torch.no_grad():
        model.head.mean_scale.mul_(1.7)
    kept, unit = model.head.mean_scale, model.head.unit
    model.eval()
    torch.testing.assert_close(plain_head(model.head)(model.features(images)), model.head(model.features(images)))
    difference = substitute(model, images)
    assert difference.logits < 1e-2 and model.head.mean_scale is kept and model.head.unit is unit
    with pytest.raises(OptionError, match="mean_scale"):
        exchange_head(model, "gaussian")


def test_a_traced_embedding_with_a_stored_unit_takes_any_batch():
    head = gcp.create_head("gaussian", 4, mean_unit="batches", solver="polar_express").eval()
    x = torch.rand(3, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(Embedding(head), (x[:2],), dynamic_shapes=({0: batch},)).module()
    torch.testing.assert_close(program(x), head.embed(x))


class Embedding(torch.nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x):
        return self.head.embed(x)
