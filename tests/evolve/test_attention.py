"""Transformers: heads, the channels of a head and those under layer norms as widths."""

import copy

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional

import gcp
from gcp.errors import OptionError
from gcp.evolve import grow, resize, shrink, trace, widths
from gcp.evolve.heads import balance, measure, rotate_heads, width_values
from gcp.evolve.policy.budget import Bounds
from gcp.evolve.policy.policies import activation_values, by_spectrum

CLASSES = 5
EMBED = "patch_embed.proj"
HEADS, WIDTH, MLP = "blocks.0.attn.num_heads", "blocks.1.attn.head_dim", "blocks.0.mlp.fc1"


class Apart(nn.Module):
    """Queries, keys and values of layers of their own; the scores by two products."""

    def __init__(self, whole=False):
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 8, stride=8)
        self.q, self.k, self.v = nn.Linear(12, 8, bias=False), nn.Linear(12, 8), nn.Linear(12, 12)
        self.out = nn.Linear(12, CLASSES)
        self.heads, self.whole = 2, whole

    def forward(self, images):
        x = self.embed(images).flatten(2).transpose(1, 2)
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        if self.whole:
            x = functional.scaled_dot_product_attention(q, k, v, scale=0.3)
        else:
            x = ((q * 0.3) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.out(x.transpose(1, 2).flatten(2)).mean(1)


@pytest.fixture
def images():
    """Smooth, so that patches are alike."""
    generator = torch.Generator().manual_seed(1)
    return functional.interpolate(torch.randn(64, 3, 8, 8, generator=generator), 32, mode="bilinear")


@pytest.fixture
def vit():
    """A tiny one, a few steps away from its initialisation, whose attention is not uniform."""
    torch.manual_seed(0)
    model = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=CLASSES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def editable(model, images):
    return {name: each.width for name, each in trace(model, images).items() if each.editable}


def test_what_is_found(vit, images):
    found = editable(vit, images)
    assert {found[name] for name in (HEADS, "blocks.1.attn.num_heads")} == {2}
    assert (found[WIDTH], found[MLP]) == (16, 128)
    ties = trace(vit, images)
    assert (ties[WIDTH].producers, ties[WIDTH].consumers) == (["blocks.1.attn.qkv"], ["blocks.1.attn.proj"])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("name", "width", "more"), [(HEADS, 3, 2096), (WIDTH, 21, 1310), (MLP, 130, 130)])
def test_growth_changes_nothing_and_counts(vit, images, name, width, more, fused):
    for block in vit.blocks:
        block.attn.fused_attn = fused
    with torch.no_grad():
        old = vit(images)
    report = grow(vit, name, width, images=images)
    with torch.no_grad():
        new = vit(images)
    assert (new - old).norm() / old.norm() < 1e-6 and report.error < 1e-6
    assert report.parameters_after - report.parameters_before == more == parameters(vit) - 32389
    attention = vit.blocks[1].attn
    assert (
        attention.scale == attention.head_dim**-0.5 and attention.attn_dim == attention.num_heads * attention.head_dim
    )
    vit(images).square().sum().backward()
    own = [p for key, p in vit.named_parameters() if key.startswith(name.rpartition(".")[0])]
    assert all(parameter.grad.abs().sum() > 0 for parameter in own)


def test_new_channels_of_a_head_learn(vit, images):
    """Their keys are zero and not read: gradients reach both."""
    grow(vit, WIDTH, 20, images=images)
    vit(images).square().sum().backward()
    attention = vit.blocks[1].attn
    keys = attention.qkv.weight.grad.view(3, 2, 20, 32)[1, :, 16:]
    assert (attention.qkv.weight.view(3, 2, 20, 32)[1, :, 16:] == 0).all() and keys.abs().amin((1, 2)).min() >= 0
    assert keys.abs().max() > 0 and attention.proj.weight.grad.view(32, 2, 20)[:, :, 16:].abs().max() > 0


@pytest.mark.parametrize(("name", "width"), [(HEADS, 1), (WIDTH, 10), (MLP, 100), (EMBED, 28)])
def test_shrinking_with_a_refit_is_better(vit, images, name, width):
    """And pivoting better than magnitudes, but for heads, of which there are two, and under layer norms."""
    errors = {}
    for method in ("pivot", "magnitude"):
        for fit in (True, False):
            errors[method, fit] = shrink(copy.deepcopy(vit), name, width, images, method=method, fit=fit).error
    assert errors["pivot", True] < errors["pivot", False] and errors["magnitude", True] < errors["magnitude", False]
    assert errors["pivot", True] <= errors["magnitude", True] or name == EMBED
    report = shrink(vit, name, width, images)
    assert report.error == errors["pivot", True] and report.parameters_after == parameters(vit)


@pytest.mark.parametrize("scale", [None, 0.01])
def test_the_width_of_a_transformer_grows_and_nothing_changes(images, scale):
    """Under layer norms, with and without layer scales, in an average of other weights too; and it learns."""
    torch.manual_seed(0)
    vit = VisionTransformer(32, 8, 3, CLASSES, embed_dim=32, depth=2, num_heads=2, init_values=scale).eval()
    average = copy.deepcopy(vit)
    with torch.no_grad():
        for model in (vit, average):
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        before, fresh, eps = average(images), copy.deepcopy(vit), vit.norm.eps
    for width in (33, 47):
        assert grow(vit, EMBED, width, images=images, ema=average).error < 2e-6
    with torch.no_grad():
        assert (average(images) - before).norm() / before.norm() < 2e-6
    assert vit.norm.normalized_shape == (47,) and vit.norm.eps == eps * 32 / 47
    assert vit.pos_embed.shape == (1, 17, 47) and vit.cls_token.shape == (1, 1, 47)
    vit(images).square().sum().backward()
    assert vit.patch_embed.proj.weight.grad[32:].abs().min() > 0 and vit.pos_embed.grad[..., 32:].abs().max() > 0
    resize(fresh, widths(vit, images), images)
    fresh.load_state_dict(vit.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(images), vit(images))


class PostNorm(nn.Module):
    """What a layer norm gives is added to what none gives."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.norm = nn.LayerNorm(8)

    def forward(self, images):
        x = self.first(images).flatten(2).transpose(1, 2)
        return self.last(x + self.norm(self.second(x))).mean(1)


class Gelu(PostNorm):
    """A function of single channels lies before the norm."""

    def forward(self, images):
        x = functional.gelu(self.first(images)).flatten(2).transpose(1, 2)
        return self.last(self.norm(x)).mean(1)


@pytest.mark.parametrize(("create", "reason"), [(PostNorm, "add in the model adds"), (Gelu, "gelu in the model")])
def test_what_a_layer_norm_forbids(images, create, reason):
    dimension = trace(create(), images[:, :, :8, :8])["first"]
    assert not dimension.editable and reason in dimension.reason and "norm" in dimension.reason
    bare = create()
    bare.norm = nn.LayerNorm(8, elementwise_affine=False)
    assert not trace(bare, images[:, :, :8, :8])["first"].editable


def test_a_basis_changes_nothing_and_is_the_best_for_the_scores(vit, images):
    ties = trace(vit, images)
    dimension, graph = ties[WIDTH], ties[WIDTH].graph
    attention = graph.attention_of(dimension)
    before = measure(vit, graph, [attention], [images])[0]
    with torch.no_grad():
        old = vit(images)
        rotate_heads(vit, dimension, attention, before)
        assert (vit(images) - old).norm() / old.norm() < 1e-5
    after = measure(vit, graph, [attention], [images])[0]
    s = balance(before.query, before.key)[2]
    torch.testing.assert_close(after.query.diagonal(dim1=1, dim2=2), s, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(after.key.diagonal(dim1=1, dim2=2), s, rtol=1e-3, atol=1e-3)
    # E (q . k)^2 = tr(G_q G_k), which is the sum of the squares
    torch.testing.assert_close((before.query * before.key).sum((1, 2)), s.square().sum(1))
    values = width_values(attention, dimension, before)
    assert values[0] == 1 and (values.diff() <= 0).all()


@pytest.mark.parametrize("whole", [True, False])
def test_queries_and_keys_are_one_width_and_values_another(images, whole):
    torch.manual_seed(0)
    model = Apart(whole).eval()
    found = editable(model, images)
    assert found == {"embed": 12, "num_heads": 2, "head_dim": 4, "value_dim": 6}
    for name, width in (("head_dim", 7), ("value_dim", 9), ("num_heads", 3)):
        assert grow(model, name, width, images=images).error < 1e-6
    assert model.q.weight.shape == (21, 12) and model.v.weight.shape == (27, 12) and model.heads == 3
    for name, width in (("head_dim", 4), ("value_dim", 6), ("num_heads", 2)):  # nothing was learned by the new
        assert shrink(model, name, width, images).error < 1e-3
    assert model.q.weight.shape == (8, 12) and model.out.weight.shape == (CLASSES, 12) and model.heads == 2


def test_optimizer_and_average_follow(vit, images):
    optimizer, average = torch.optim.AdamW(vit.parameters(), 1e-3), copy.deepcopy(vit)
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)
        old = average(images)
    vit(images).square().sum().backward()
    optimizer.step()
    before = optimizer.state[vit.blocks[1].attn.qkv.weight]["exp_avg"].view(3, 2, 16, 32).clone()
    grow(vit, {WIDTH: 20, HEADS: 3}, optimizer=optimizer, ema=average, images=images)
    after = optimizer.state[vit.blocks[1].attn.qkv.weight]["exp_avg"].view(3, 2, 20, 32)
    assert torch.equal(after[:, :, :16], before) and (after[:, :, 16:] == 0).all()
    with torch.no_grad():
        assert (average(images) - old).norm() / old.norm() < 1e-6
        shrink(vit, WIDTH, 16, images, optimizer=optimizer, ema=average)
        assert (average(images) - old).norm() / old.norm() < 1e-3
    vit(images).square().sum().backward()
    optimizer.step()


def test_random_edits_and_the_model_rebuilt(vit, images):
    """Edits of all kinds one after the other; built again from its widths it gives the same bits."""
    generator = torch.Generator().manual_seed(0)
    fresh = copy.deepcopy(vit)
    for _ in range(8):
        found = editable(vit, images)
        name = list(found)[int(torch.randint(len(found), (), generator=generator))]
        width = max(1, int(found[name] * (0.7 + 0.7 * float(torch.rand((), generator=generator)))))
        with torch.no_grad():
            old = vit(images)
        report = (grow if width >= found[name] else shrink)(vit, name, width, images=images)
        assert report.parameters_after == parameters(vit) and editable(vit, images)[name] == width
        with torch.no_grad():
            change = (vit(images) - old).norm() / old.norm()
        assert change < 1e-5 if width >= found[name] else change < 1, (name, found[name], width)
    resize(fresh, widths(vit, images), images)
    fresh.load_state_dict(vit.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(images), vit(images))


def test_a_covariance_classifier_with_a_transformer(images):
    model = gcp.create_model("test_vit", head="svd_pade", num_classes=CLASSES, dim=8, image_size=32).eval()
    grow(model, "features.body.blocks.2.attn.num_heads", 3, images=images)
    shrink(model, "features.body.blocks.3.attn.head_dim", 24, images)
    again = gcp.create_model(**model.arguments)
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(images), model(images))


def test_a_policy_takes_the_heads_that_add_nothing(vit, images):
    """One head and half of the channels of each are silent; the bound of channels is none of heads."""
    with torch.no_grad():
        vit.blocks[0].attn.proj.weight.view(32, 2, 16)[:, 1] *= 1e-3
        vit.blocks[1].attn.qkv.weight.view(3, 2, 16, 32)[:, :, 8:] *= 1e-3
        vit.blocks[1].attn.qkv.bias.view(3, 2, 16)[:, :, 8:] *= 1e-3
    dimensions = {name: each for name, each in trace(vit, images).items() if each.editable}
    values = activation_values(vit, dimensions, [images[:16], images[16:]])
    decisions = {each.dimension: each.after for each in by_spectrum(values, dimensions, Bounds(8), 0.01, 2)}
    assert decisions.pop(HEADS) == 1 and decisions.pop(WIDTH) == 11  # a third in one edit
    assert not any("attn" in name for name in decisions)


class Biased(Apart):
    """A number for each head is added to its scores."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.ones(self.heads, 1, 1))

    def forward(self, images):
        x = self.embed(images).flatten(2).transpose(1, 2)
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = (q @ k.transpose(-2, -1) + self.bias).softmax(-1) @ v
        return self.out(x.transpose(1, 2).flatten(2)).mean(1)


class Normed(Apart):
    """Queries of length one."""

    def forward(self, images):
        x = self.embed(images).flatten(2).transpose(1, 2)
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = functional.scaled_dot_product_attention(functional.normalize(q, dim=-1), k, v)
        return self.out(x.transpose(1, 2).flatten(2)).mean(1)


@pytest.mark.parametrize(
    ("create", "left", "reason"),
    [
        (Biased, {"embed", "head_dim", "value_dim"}, "a number for each head"),
        (Normed, {"embed"}, "unflatten in the model divides it, and "),
    ],
)
def test_what_is_refused(images, create, left, reason):
    assert set(editable(create(), images)) == left
    fixed = [each for each in trace(create(), images).values() if each.width == 2]
    assert all(reason in each.reason for each in fixed)
    with pytest.raises(OptionError, match="cannot be edited"):
        grow(create(), fixed[0].name, 8, example=images)
