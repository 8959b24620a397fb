"""Factored models: what has to stay as it was, and what may not happen."""

import copy
import re
import time
from statistics import median

import pytest
import torch
from torch import nn

from gcp.compress import Factored, decompose, factors_of, merge
from gcp.compress.basis import basis
from gcp.compress.statistics import Statistics
from gcp.errors import DataError, GCPError, NonFiniteError
from gcp.kernels.cpu import set_threads

LAYERS = {
    "wide": lambda: nn.Linear(40, 12),
    "tall": lambda: nn.Linear(12, 40),
    "no bias": lambda: nn.Linear(40, 12, bias=False),
    "tall, no bias": lambda: nn.Linear(12, 40, bias=False),
    "1x1": lambda: nn.Conv2d(12, 30, 1, stride=2),
    "3x3": lambda: nn.Conv2d(6, 20, 3, padding=1, bias=False),
    "strided, dilated, reflecting": lambda: nn.Conv2d(6, 10, (3, 5), 2, (2, 1), 2, padding_mode="reflect"),
    "more outputs than a patch has numbers": lambda: nn.Conv2d(1, 20, 3),
    "same": lambda: nn.Conv2d(4, 9, 3, padding="same"),
}
METHODS = ["svd", "asvd", "output_pca"]


def images(layer, count=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if isinstance(layer, nn.Linear):
        mixing = torch.randn(layer.in_features, layer.in_features, generator=generator) / 4
        return torch.randn(count, layer.in_features, generator=generator) @ mixing + 0.5
    return torch.randn(count, layer.in_channels, 9, 10, generator=generator) + 0.5


@pytest.fixture(params=LAYERS)
def layer(request):
    torch.manual_seed(0)
    return LAYERS[request.param]()


@pytest.mark.parametrize("method", METHODS)
def test_full_rank_reproduces_the_outputs(layer, method):
    x = images(layer)
    new, report = decompose(layer, ratio=1.0, method=method, data=x, force=True)
    assert isinstance(new, Factored) and report.rows[0].measured < 1e-5
    torch.testing.assert_close(new(images(layer, seed=1)), layer(images(layer, seed=1)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(new.weight, layer.weight, atol=1e-5, rtol=1e-5)


def test_full_rank_with_fewer_samples_than_directions(layer):
    """Directions that the data leave empty are kept as well."""
    new, _ = decompose(layer, ratio=1.0, data=images(layer, count=2), force=True)
    torch.testing.assert_close(new(images(layer, seed=1)), layer(images(layer, seed=1)), atol=1e-4, rtol=1e-4)


def test_full_rank_of_inputs_that_are_zero(layer):
    for method in METHODS:
        new, _ = decompose(layer, ratio=1.0, method=method, data=0 * images(layer), force=True)
        torch.testing.assert_close(new(images(layer)), layer(images(layer)), atol=1e-4, rtol=1e-4)


def test_rounding_of_outputs_chooses_no_directions():
    """The covariance of constant outputs is rounding; a kernel with more outputs than inputs has noise outside of its
    range. Neither may replace the directions that the weight has."""
    layer = nn.Conv2d(1, 20, 3)
    for noise in (0.0, 1e-6):
        moments = Statistics(layer, "output_pca")
        x = torch.zeros(64, 1, 9, 10)
        y = layer(x).detach()
        moments.add(x, y + noise * torch.randn(y.shape))
        own = basis(layer, "output_pca", moments)
        torch.testing.assert_close(own.up @ own.up.mT @ own.weight, own.weight)


@pytest.mark.parametrize("out", [12, 40])
def test_svd_is_the_best_approximation_of_the_weight(out):
    layer = nn.Linear(25, out, dtype=torch.float64)
    new, report = decompose(layer, rank=5)
    U, S, V = torch.linalg.svd(layer.weight)
    torch.testing.assert_close(new.weight, (U[:, :5] * S[:5]) @ V[:5])
    error = (S[5:].norm() / S.norm()).item()
    assert report.rows[0].estimated == pytest.approx(error) == pytest.approx(report.rows[0].measured)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("out", [12, 60])
def test_output_pca_is_reduced_rank_regression(out, bias):
    """Against the closed form of least squares over all matrices of rank 4, and better there than any other method."""
    torch.manual_seed(1)
    layer = nn.Linear(30, out, bias=bias, dtype=torch.float64)
    x = images(nn.Linear(30, 1), 500).double()
    held = torch.arange(500) % 4 == 3
    y = (layer(x[~held]) - (layer.bias if bias else 0)).detach()
    mean = y.mean(0) if bias else torch.zeros(out, dtype=torch.float64)
    _, _, V = torch.linalg.svd(y - mean, full_matrices=False)
    P = V[:4].mT @ V[:4]
    expected = (layer(x) - (mean + layer.bias if bias else 0)) @ P + (mean + layer.bias if bias else 0)
    new, report = decompose(layer, rank=4, data=[x[:170], x[170:]], force=True)
    torch.testing.assert_close(new(x), expected.detach(), atol=1e-4, rtol=1e-4)
    unseen = layer(x[held]) - (layer(x[held]).mean(0) if bias else 0)
    error = ((layer(x) - new(x))[held].norm() / unseen.norm()).item()
    assert report.rows[0].measured == pytest.approx(error, rel=1e-6)
    assert report.rows[0].estimated == pytest.approx(error, rel=0.02)  # about their own mean
    for other in ("svd", "asvd"):
        assert decompose(layer, rank=4, method=other, data=x, force=True)[1].rows[0].measured > error


def test_asvd_scales_the_inputs_by_the_root_of_their_mean_size():
    layer = nn.Linear(20, 9, dtype=torch.float64)
    x = images(layer).double()
    scale = x[torch.arange(len(x)) % 4 != 3].abs().mean(0) ** 0.5
    U, S, V = torch.linalg.svd(layer.weight * scale)
    new, _ = decompose(layer, rank=3, method="asvd", data=x)
    torch.testing.assert_close(new.weight, (U[:, :3] * S[:3]) @ V[:3] / scale)


def test_streaming_does_not_depend_on_the_batches(layer):
    x = images(layer)
    one, _ = decompose(layer, rank=3, data=x)
    many, _ = decompose(layer, rank=3, data=[(part, "label") for part in x.split(7)])
    torch.testing.assert_close(one.weight, many.weight, atol=1e-5, rtol=1e-4)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 20))


def test_the_model_itself_is_left_alone():
    model = net().train()
    model[2].eval()
    before = copy.deepcopy(model.state_dict())
    decompose(model, rank=3, data=torch.randn(16, 30))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert [module.training for module in model] == [True, True, False, True, True]
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("bias", [True, False])
def test_parameters_never_grow_unless_forced(bias):
    layer = nn.Linear(512, 512, bias=bias)
    new, report = decompose(layer, ratio=0.75)
    assert type(new) is nn.Linear and re.search(r"rank 384 .*\b393,216 .*\b262,144\b", report.table())
    assert sum(p.numel() for p in decompose(layer, ratio=0.75, force=True)[0].parameters()) == 393_216 + 512 * bias
    for target in ({"rank": 256}, {"energy": 1.0}, {"params": 0.999}, {"error": 0.0}):
        model, report = decompose(nn.Sequential(layer, nn.Linear(3, 2)), **target)
        assert report.parameters_after == sum(p.numel() for p in model.parameters()) <= report.parameters


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtype_and_absent_bias_stay(dtype):
    model = nn.Sequential(nn.Linear(30, 20, bias=False), nn.Conv2d(8, 16, 3, bias=False)).to(dtype)
    new, report = decompose(model, rank=4)
    assert {p.dtype for p in new.parameters()} == {dtype} and len(report.factored) == 2
    assert new[0].bias is None and new[1].bias is None and not [key for key in new.state_dict() if "bias" in key]
    assert new[0](torch.randn(2, 30, dtype=dtype)).dtype == dtype
    data = torch.randn(64, 30)
    assert decompose(model[0], rank=4, data=data)[1].rows[0].measured < 1


def test_attention_is_skipped_with_the_reason():
    model = nn.TransformerEncoderLayer(16, 2, 64, batch_first=True).eval()
    x = torch.randn(3, 5, 16)
    new, report = decompose(model, rank=4, data=x)
    reasons = {row.name: row.reason for row in report.rows}
    assert re.match(r"attention\b", reasons["self_attn"])
    assert re.search(r"weight .*read by self_attn\b", reasons["self_attn.out_proj"])
    assert type(new.self_attn.out_proj) is type(model.self_attn.out_proj)
    full, _ = decompose(model, ratio=1.0, force=True)
    for mode in (False, True):  # the fast path of evaluation reads linear1.weight
        torch.manual_seed(0)
        expected = model.train(mode)(x)
        torch.manual_seed(0)
        torch.testing.assert_close(full.train(mode)(x), expected, atol=1e-5, rtol=1e-4)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(20, 20)
        self.block = nn.ModuleDict({"again": self.first, "other": nn.Linear(20, 20)})
        self.last = self.block["other"]

    def forward(self, x):
        return self.last(self.block["again"](self.first(x)))


def test_shared_modules_stay_shared():
    new, report = decompose(Twice(), rank=3)
    assert new.first is new.block["again"] and new.last is new.block["other"]
    assert all(isinstance(m, Factored) for m in (new.first, new.last))
    assert [(row.name, row.uses) for row in report.rows] == [("first", 2), ("block.other", 2)]
    assert report.parameters_after == sum(p.numel() for p in new.parameters()) == 2 * (2 * 60 + 20)
    assert factors_of(new) == ["first=3", "block.other=3"]
    dense = merge(new)
    assert dense.first is dense.block["again"] and type(dense.first) is nn.Linear


def test_tied_weights_are_skipped_with_the_reason():
    model = nn.ModuleDict({"embedding": nn.Embedding(50, 20), "logits": nn.Linear(20, 50, bias=False)})
    model["logits"].weight = model["embedding"].weight
    _, report = decompose(model, rank=2)
    assert re.search(r"weight .*shared with embedding\b", report.rows[0].reason)


def test_frozen_layers_stay_frozen():
    model = net()
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(False)
    model[4].weight.no_weight_decay = True
    new, _ = decompose(model.eval(), rank=3)
    assert {key: p.requires_grad for key, p in new.named_parameters()} == {
        **dict.fromkeys(["0.down.weight", "0.up.weight", "0.up.bias", "2.up.bias"], False),
        **dict.fromkeys(["2.down.weight", "2.up.weight", "4.down.weight", "4.up.weight", "4.up.bias"], True),
    }
    assert new[4].up.weight.no_weight_decay and new[4].down.weight.no_weight_decay
    assert not any(module.training for module in new.modules())
    assert all(p.is_leaf for p in new.parameters())


def test_a_root_layer_is_factored():
    new, report = decompose(nn.Linear(30, 20), rank=3)
    assert isinstance(new, Factored) and report.rows[0].name == "" and factors_of(new) == ["=3"]
    assert "(the model)" in report.table() and type(merge(new)) is nn.Linear


@pytest.mark.parametrize("target", [{"rank": 4}, {"ratio": 0.2}, {"energy": 0.7}, {"params": 0.4}, {"error": 0.9}])
def test_a_second_time_changes_nothing(target):
    once, first = decompose(net(), **target)
    twice, second = decompose(once, **target)
    assert factors_of(once) == factors_of(twice) and first.factored and not second.factored
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), twice.parameters(), strict=True))
    assert second.parameters == first.parameters and second.parameters_after == first.parameters_after
    assert "factored already" in second.table()


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Conv2d(8, 8, 3, groups=4), r"4 groups\b.*"),
        (nn.LazyLinear(4), r".*shape .*not known .*first call\b.*"),
        (nn.Linear(8, 8, device="meta"), r"its weight has no values \(device meta\)"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), "its weight is parametrised"),
        (type("Own", (nn.Linear,), {"forward": lambda self, x: x})(8, 8), "Own has a forward of its own"),
        (nn.Linear(8, 8, dtype=torch.complex64), "its weight is complex64"),
        (nn.Linear(1, 30), "rank 1 has 31 weights, the layer 30"),
    ],
)
def test_skipped_with_the_reason(module, reason):
    new, report = decompose(nn.Sequential(module), rank=1)
    assert re.fullmatch(reason, report.rows[0].reason) and not isinstance(new[0], Factored)


def test_hooks_are_not_lost():
    model = net()
    model[0].register_forward_hook(lambda *_: None)
    assert "hooks" in decompose(model, rank=2)[1].rows[0].reason


def test_layers_that_the_data_do_not_reach():
    model = nn.ModuleDict({"used": nn.Linear(30, 20), "idle": nn.Linear(30, 20)})
    model.forward = lambda x: model["used"](x)
    model = type("Half", (nn.ModuleDict,), {"forward": lambda self, x: self["used"](x)})(dict(model.items()))
    _, report = decompose(model, rank=2, data=torch.randn(40, 30))
    used, idle = [row.reason for row in report.rows]
    assert used == "" and "never called" in idle


def test_nothing_to_factor():
    _, report = decompose(nn.ReLU(), params=0.5, data=torch.randn(8, 3))
    assert report.rows == [] and report.error == 0 and "0 -> 0 parameters" in report.table()


def test_include_and_exclude():
    _, report = decompose(net(), rank=2, include=["0", "2"], exclude="2")
    assert [row.reason for row in report.rows] == ["", "excluded", "not included"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"rank, ratio, energy, params, error; got none"),
        ({"rank": 3, "params": 0.5}, r"got rank=3 and params=0.5"),
        ({"rank": 0}, "rank must be a whole number >= 1, got 0"),
        ({"rank": 2.0}, r"rank .*>= 1\b.* 2\.0\b"),
        ({"params": 1.5}, r"params .*\b0\b.*\b1\b.*1\.5\b"),
        ({"error": float("nan")}, "error must be a number >= 0, got nan"),
        ({"rank": 2, "method": "output_pc"}, r"'output_pc'.*Did you mean 'output_pca'\?"),
        ({"rank": 2, "method": "asvd"}, "method 'asvd' needs calibration data"),
        ({"rank": 2, "data": iter([torch.ones(2, 30)])}, r"data .*only once .*twice"),
        ({"rank": 2, "data": 3}, r"data .*tensor .*iterable .*int$"),
        ({"rank": 2, "data": [{"x": 1}]}, r"batch .*tensor.*tuple .*dict$"),
        ({"rank": 2, "include": ["classifer"]}, "unknown layer 'classifer'"),
        ({"params": 0.01}, r"params=0\.01 .*\b100 of 3,700 .*at least params=0\.0"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(GCPError, match=message):
        decompose(net(), **arguments)


def test_no_data_and_bad_numbers():
    with pytest.raises(DataError, match="the calibration data hold no batch"):
        decompose(net(), rank=2, data=[])
    with pytest.raises(NonFiniteError, match="on the calibration data a Linear gives inf or NaN"):
        decompose(net(), rank=2, data=torch.full((2, 30), torch.nan))
    model = net()
    model[2].weight.data[0, 0] = torch.inf
    with pytest.raises(NonFiniteError, match="the weight of 2 has inf or NaN"):
        decompose(model, rank=2)


def test_gradients_and_double_use_of_the_factors():
    new, _ = decompose(nn.Linear(8, 6, dtype=torch.float64), rank=2)
    assert torch.autograd.gradcheck(new, torch.randn(3, 8, dtype=torch.float64, requires_grad=True))
    assert new.weight.requires_grad and new.weight.shape == (6, 8)


def test_factors_have_equal_norms():
    """Neither factor leaves the range of half precision."""
    layer = nn.Linear(64, 32)
    layer.weight.data *= 1e4
    new, _ = decompose(layer.half(), rank=8)
    assert new.down.weight.float().norm(dim=1).allclose(new.up.weight.float().norm(dim=0), rtol=1e-2)
    assert torch.isfinite(new.weight).all()


def test_without_matrices_of_the_larger_side(monkeypatch):
    """No decomposition but that of the smaller side, in float64, and never of the weight itself."""
    sizes = []
    own = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda P: sizes.append((P.shape, P.dtype)) or own(P))
    monkeypatch.setattr(torch.linalg, "svd", None)
    decompose(nn.Linear(500, 7), rank=2)
    decompose(nn.Linear(7, 500), rank=2, data=torch.randn(20, 7))
    assert {size for size, _ in sizes} == {torch.Size([7, 7])} and {dtype for _, dtype in sizes} == {torch.float64}


def test_the_classifier_of_a_covariance_head_is_quick_to_factor_and_quick_after():
    """Processor time, which others on the machine hardly lengthen: two cores have 6 s of it in 3 s."""
    layer = nn.Linear(32896, 1000)
    start = time.process_time()
    small, report = decompose(layer, rank=200)
    assert time.process_time() - start < 6 and report.parameters_after == 6_780_200
    x, ratios, threads = torch.randn(32, 32896), [], torch.get_num_threads()
    set_threads(1)
    try:
        with torch.no_grad():
            for _ in range(9):
                times = [time.process_time()]
                for module in (layer, small):
                    module(x)
                    times.append(time.process_time())
                ratios.append((times[1] - times[0]) / (times[2] - times[1]))
    finally:
        set_threads(threads)
    assert median(ratios) > 3
