"""Which channels hang together: by hand for small networks, and what is refused with its reason."""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from gcp.compress import factorise
from gcp.errors import GCPError, OptionError, UnknownNameError
from gcp.evolve import grow, trace, widths
from gcp.layers.parametrize import orthogonal


def names(ties):
    return {name: dimension.width for name, dimension in ties.items() if dimension.editable}


def test_sums_tie_stages(make, images):
    ties = trace(make("residual"), images)
    assert names(ties) == {"stem": 8, "inner": 6, "next": 12}
    assert ties["stem"].producers == ["stem", "outer"] and ties["stem"].consumers == ["inner", "next", "shortcut"]
    assert ties["next"].producers == ["next", "shortcut"] and ties["next"].consumers == ["last"]
    assert not any(dimension.pooled for dimension in ties.values())


def test_concatenations_keep_their_parts_apart(make, images):
    ties = trace(make("dense"), images)
    assert names(ties) == {"first": 6, "second": 4, "third": 4}
    assert ties["first"].consumers == ["second", "third", "last"]


def test_gates_and_depthwise_convolutions(make, images):
    ties = trace(make("gated"), images)
    assert names(ties) == {"expand": 8, "squeeze": 4}
    assert ties["expand"].producers == ["expand", "depthwise", "excite"]
    assert ties["expand"].consumers == ["squeeze", "project"]


def test_groups_come_and_go_whole(make, images):
    model = make("grouped")
    ties = trace(model, images)
    assert names(ties) == {"into": 12} and ties["into"].step == 3
    with pytest.raises(OptionError, match=r"'into' .*\b14; allowed: .*\b3\b.*\b12 or 15\b"):
        grow(model, "into", 14, example=images)
    grow(model, "into", 15, example=images)
    assert model.groups.groups == 5 and model.groups.weight.shape == (15, 3, 3, 3)


def test_flattened_maps(make, images):
    assert names(trace(make("flattened"), images)) == {"0": 6, "3": 7, "7": 9}


def test_a_classifier_tells_its_images(make):
    model = make("svd_pade")
    ties = trace(model)
    assert ties["head.reduction"].pooled and ties["head.reduction"].consumers == ["classifier"]
    assert ties["features.body.conv1"].producers == ["features.body.conv1", "features.body.layer1.0.conv2"]
    assert widths(model) == names(ties) and "head.reduction" in widths(model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(make, dtype):
    assert "head.reduction" in widths(make("svd_pade").to(dtype))


@pytest.mark.parametrize("bottleneck", [False, True])
def test_torchvision(bottleneck):
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

    model = ResNet(Bottleneck if bottleneck else BasicBlock, [1, 2, 1, 1], num_classes=7)
    found = names(trace(model, torch.empty(1, 3, 32, 32)))
    stages = [n for n, d in trace(model, torch.empty(1, 3, 32, 32)).items() if d.editable and len(d.producers) > 1]
    inner = ("conv1", "conv2") if bottleneck else ("conv1",)
    blocks = ("layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer4.0")
    assert {f"{block}.{conv}" for block in blocks for conv in inner} < set(found)
    last = "conv3" if bottleneck else "conv2"
    first = "layer1.0.conv3" if bottleneck else "conv1"  # without a shortcut of its own it is the stem's
    assert stages == [first, *(f"layer{stage}.0.{last}" for stage in (2, 3, 4))]


def one(*layers):
    """A convolution between two others, and what it goes through."""
    return nn.Sequential(nn.Conv2d(3, 8, 1), *layers, nn.Conv2d(8, 2, 1))


class Foreign(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([nn.GroupNorm(2, 8)], "group_norm in 1 cannot be followed"),
        ([nn.PReLU(8)], "prelu in 1 cannot be followed"),
        ([nn.Softmax(1)], "softmax in 1 cannot be followed"),
        ([Foreign(lambda x: x[:, [1, 0, 3, 2, 5, 4, 7, 6]])], "getitem in 1 cannot be followed"),
        ([Foreign(lambda x: x * torch.ones(8, 1, 1, device=x.device))], "joins it with a tensor whose"),
        ([Foreign(lambda x: x.view(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2))], "view in 1"),
        ([Foreign(lambda x: x.log())], "log in 1 cannot be followed"),
        ([Foreign(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1))], "chunk in 1 cannot be followed"),
        ([orthogonal(nn.Conv2d(8, 8, 1))], "the weight of 1 is computed from others"),
        ([nn.Conv2d(8, 4, 1, groups=2), nn.Conv2d(4, 8, 1)], "the 2 groups of 1 cannot be followed"),
    ],
)
def test_what_is_not_followed_is_refused(layers, reason):
    model, images = one(*layers), torch.randn(2, 3, 4, 4)
    dimension = trace(model, images)["0"]
    assert not dimension.editable and reason in dimension.reason
    with pytest.raises(OptionError, match="width '0' cannot be edited: "):
        grow(model, "0", 9, example=images)


def write(index, value=0.0):
    def function(x):
        y = x.clone()
        y[index] = value
        return y

    return function


def add_into(x):
    y = torch.zeros_like(x)
    y[:, :4] += x[:, :4]
    return y


@pytest.mark.parametrize(
    "function",
    [
        write((slice(None), slice(-4, None))),
        write((slice(None), torch.tensor([1, 3]))),
        write((slice(None), 2)),
        write((slice(None), torch.arange(8) > 5)),
        add_into,
        lambda x: x.clone().index_fill_(1, torch.tensor([2], device=x.device), 0.0),
        lambda x: x.clone().masked_fill_((torch.arange(8, device=x.device) > 4).view(-1, 1, 1), 0.0),
        lambda x: x.clone().index_copy_(1, torch.tensor([0], device=x.device), x[:, 1:2]),
        lambda x: x.index_add(1, torch.tensor([0], device=x.device), x[:, 1:2]),
        lambda x: torch.where((torch.arange(8, device=x.device) > 4).view(-1, 1, 1), x, 0 * x),
        lambda x: torch.cat([x[:, :4], 0 * x[:, 4:]], 1),
        lambda x: x.narrow(1, 0, 8),
        lambda x: x * x.shape[1] ** -0.5,
        lambda x: x / x.shape[1],
        lambda x: x / math.sqrt(x.size(1)),
        lambda x: x * (1 / x.size(dim=1)),
        lambda x: x * x.shape[1],
        lambda x: x + torch.tensor(x.shape[1]),
        lambda x: x / (x.numel() // len(x)),
        lambda x: x * float(x.flatten(1).shape[1]),
        lambda x: x.clamp(max=x.shape[1]),
    ],
)
def test_writes_into_a_part_and_widths_as_numbers_freeze(function):
    model, images = one(Foreign(function)), torch.randn(2, 3, 4, 4)
    model(images)  # it runs
    dimension = trace(model, images)["0"]
    assert not dimension.editable, dimension
    with pytest.raises(OptionError, match="width '0' cannot be edited: "):
        grow(model, "0", 9, example=images)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.view(x.shape[0], x.shape[1], -1).view(x.shape),
        lambda x: x.reshape(x.size(0), x.size(1) + x.size(1) - x.size(1), -1).view(x.shape),
        lambda x: x if x.shape[1] >= 1 else 0 * x,
        lambda x: x * torch.ones(x.shape[1] // x.shape[1], 1, 1, device=x.device),
    ],
)
def test_sizes_as_sizes_are_followed(function):
    model, images = one(Foreign(function)), torch.randn(2, 3, 4, 4)
    before = model.eval()(images)
    grow(model, "0", 11, example=images)
    torch.testing.assert_close(model(images), before)


def test_a_buffer_that_the_model_writes_into():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            self.norm.running_mean[:2] = 0.0
            return self.b(self.norm(self.a(x)))

    assert "writes into a part" in trace(Writes(), torch.empty(1, 3, 4, 4))["a"].reason


def test_an_attribute_that_is_computed_with_is_found_in_the_trial():
    """Tracing does not see it; a copy with more channels does."""

    class Scaled(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * self.in_channels**-0.5

    model, images = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), Scaled(8, 2, 1)), torch.randn(2, 3, 4, 4)
    before, state = model(images), torch.get_rng_state()
    with pytest.raises(GCPError, match="computes with the width as a number"):
        grow(model, "0", 9, example=images)
    assert torch.equal(model(images), before) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("head", ["svd_pade", "svd_topn", "covariance", "second_moment"])
def test_an_attribute_that_is_computed_with_on_channels_that_a_head_pools(make, head):
    """Whatever the root makes of one more channel; a head of which nobody computes with the width can be edited."""

    class Scaled(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * self.out_channels**-0.5

    model, images = make(head, dim=4).double(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    grow(model, "head.reduction", 6, example=images)
    old = model.head.reduction[0]
    scaled = Scaled(old.in_channels, old.out_channels, 1, bias=False).double()
    scaled.load_state_dict(old.state_dict())
    model.head.reduction[0] = scaled
    model.head.reduction[1].running_mean.normal_()
    with pytest.raises(GCPError, match="computes with the width as a number"):
        grow(model, "head.reduction", 7, example=images)


def test_a_norm_across_the_channels():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(3), nn.Linear(6, 2))
    assert "batch norm in 1 lies across it" in trace(model, torch.empty(5, 3, 4))["0"].reason


def test_a_norm_of_other_channels():
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(5), nn.Conv2d(6, 2, 1))
    with pytest.raises(GCPError, match=r"cannot be traced.*\b5 entries .*\b6 channels"):
        trace(model, torch.empty(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("input", "these are the channels of the images"), ("classifier", "it is an output of the model")],
)
def test_ends_stay(make, name, reason):
    assert trace(make("covariance"))[name].reason == reason


@pytest.mark.parametrize("head", ["bilinear", "compact_bilinear", "gaussian"])
def test_heads_that_mix(make, head):
    assert "mixes its channels" in trace(make(head))["head.reduction"].reason


def test_a_parametrised_weight_that_cannot_be_set_tells_the_way_out():
    model, images = one(parametrizations.orthogonal(nn.Conv2d(8, 8, 1))), torch.randn(2, 3, 4, 4)
    with pytest.raises(OptionError, match=r"Orthogonal\): .*remove_parametrizations"):
        grow(model, "0", 9, example=images)
    nn.utils.parametrize.remove_parametrizations(model[1], "weight")
    assert names(trace(model, images)) == {"0": 8, "1": 8}


def test_a_computed_weight_has_its_name(make):
    ties = trace(make("covariance", reduction="orthogonal"))
    assert re.search(r"head\.reduction\.0 .*computed", ties["head.reduction"].reason)
    assert not ties["features.body.layer3.0.conv2"].editable and ties["features.body.layer2.0.conv2"].editable


def test_average_does_not_mix(make):
    assert trace(make("average"))["head.reduction"].editable


def test_a_gate_of_one_channel():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 1, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            x = self.a(x)
            return self.c(self.b(x).sigmoid() * x)

    ties = trace(Attention(), torch.empty(1, 3, 4, 4))
    assert ties["a"].editable and "spreads it over all channels" in ties["b"].reason


def test_a_shared_layer_ties_what_it_reads_and_writes():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.c(self.b(self.b(self.a(x)).relu()))

    model, x = Twice(), torch.randn(5, 4)
    before = model(x)
    assert trace(model, x)["a"].producers == ["a", "b"]
    grow(model, "a", 9, example=x)
    assert model.b.weight.shape == (9, 9)
    assert torch.allclose(model(x), before, atol=1e-6)


@pytest.mark.parametrize("form", [lambda a, b: {"a": a, "b": [b]}, lambda a, b: (a, b)])
def test_all_outputs_stay(form):
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 3)

        def forward(self, x):
            x = self.first(x)
            return form(self.a(x), self.b(x))

    assert names(trace(Several(), torch.empty(1, 4))) == {"first": 6}


def test_factored_layers_stay(make):
    model = make("svd_pade")
    factorise(model, ["features.body.layer2.0.conv1=4"])
    reasons = {d.reason for d in trace(model).values() if d.reason}
    assert any(re.search("factored.*change widths before compression", reason) for reason in reasons)


def test_nothing_is_left_behind(make, images):
    model = make("svd_pade").train()
    model.features.eval()
    calls = []
    model.features.register_forward_hook(lambda *_: calls.append(1))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.random.get_rng_state()
    trace(model, images)
    assert model.training and not model.features.training and not calls and "pool" not in vars(model.head)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    model(images)
    assert calls


def test_wrappers_and_faults():
    class OptimizedModule(nn.Module):
        """What torch.compile gives, which takes seconds to import."""

        def __init__(self):
            super().__init__()
            self._orig_mod = nn.Linear(2, 2)

    with pytest.raises(OptionError, match=r"OptimizedModule .*give the model inside"):
        trace(OptimizedModule(), torch.empty(1, 2))
    with pytest.raises(OptionError, match="give an example"):
        trace(nn.Linear(2, 2))
    with pytest.raises(GCPError, match="the widths of this model cannot be traced: "):
        trace(nn.Linear(2, 2), torch.empty(1, 3))
    with pytest.raises(UnknownNameError, match=r"unknown width '1'. .*Known: 0, 2, input"):
        grow(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), "1", 5, example=torch.empty(1, 2))
