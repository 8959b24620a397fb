"""A weight over its spectral norm: the bound in training, the norm of a convolution as an operator, one module life."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm as torch_spectral_norm

from gcp import layers
from gcp.errors import OptionError
from gcp.layers import spectral_norm
from gcp.layers.parametrize import settled
from gcp.layers.spectral_norm import frequencies, largest, upper_bound

HOLDING = ("exact", "bound")
METHODS = ("power", *HOLDING)


def sigma(weight):
    """The true norm of the matrix of a weight, in float64."""
    return float(torch.linalg.svdvals(weight.detach().double().flatten(1))[0])


def operator(conv, size):
    """The true norm of a convolution on images of a size, from its whole matrix in float64."""
    conv = deepcopy(conv).double()
    height, width = size
    basis = torch.eye(conv.in_channels * height * width, dtype=torch.float64)
    with torch.no_grad():
        columns = conv(basis.view(-1, conv.in_channels, height, width)).flatten(1)
    return float(torch.linalg.svdvals(columns)[0])


def train_hard(layer, steps=200, every=1):
    """SGD at learning rate 1 towards far targets; the greatest true norm that the weight had in evaluation."""
    generator = torch.Generator().manual_seed(0)
    x, target = (torch.randn(32, 64, generator=generator) for _ in range(2))
    optimizer, worst = torch.optim.SGD(layer.parameters(), lr=1.0), 0.0
    for step in range(steps):
        optimizer.zero_grad()
        functional.mse_loss(layer(x), 100 * target).backward()
        optimizer.step()
        if step % every == 0:
            worst = max(worst, sigma(layer.eval().weight))
            layer.train()
    return worst


def linear():
    torch.manual_seed(0)
    return nn.Linear(64, 64)


@pytest.mark.parametrize("method", HOLDING)
def test_the_norm_stays_at_one_however_hard_the_training(method):
    assert train_hard(spectral_norm(linear(), method)) <= 1 + 1e-5


def test_power_iterations_do_not_hold_it():
    """Nor do those of torch: the norm passes 10 in most runs."""
    theirs = train_hard(torch_spectral_norm(linear()), every=5)
    one, five = (train_hard(spectral_norm(linear(), "power", steps), every=5) for steps in (1, 5))
    assert theirs > 4 and one > 4 and five > 1.2


def test_box_spectrum_holds_its_bound():
    layer = layers.SVDLinear.from_linear(spectral_norm(linear(), "exact"), "box", width=1.1)
    assert train_hard(layer) <= 2.1 + 1e-5


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 6), (9, 4), (5, 5), (64, 300)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("size", [1e-15, 1.0, 1e15])
def test_norms(rows, columns, dtype, size):
    blocks = size * torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(0), dtype=dtype)
    double = torch.promote_types(dtype, torch.float64)
    wanted = float(torch.linalg.svdvals(blocks.to(double))[:, 0].max())
    assert float(largest(blocks)) == pytest.approx(wanted, rel=2e-6)
    rank = min(rows, columns)
    assert wanted * (1 - 2e-6) <= float(upper_bound(blocks)) <= wanted * rank ** (2**-9) * (1 + 2e-6)


def test_bound_of_equal_singular_values_is_the_loosest():
    assert float(upper_bound(torch.eye(256)[None])) == pytest.approx(256 ** (1 / 512), rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_zero_stays_zero(method):
    layer = nn.Linear(4, 3)
    nn.init.zeros_(layer.weight)
    spectral_norm(layer, method)
    layer(torch.ones(2, 4)).sum().backward()
    assert float(layer.weight.detach().abs().max()) == 0
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_weight_recovers(method):
    """Its first step leads to a weight of norm 1, in training and in evaluation."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    nn.init.zeros_(layer.weight)
    spectral_norm(layer, method)
    optimizer, x, y = torch.optim.SGD(layer.parameters(), lr=0.1), torch.randn(16, 4), torch.randn(16, 3)
    for _ in range(40):
        optimizer.zero_grad()
        functional.mse_loss(layer(x), y).backward()
        assert all(parameter.grad.isfinite().all() and parameter.grad.norm() < 1e3 for parameter in layer.parameters())
        optimizer.step()
    assert sigma(layer.eval().weight) == pytest.approx(1, abs=0.02)


def test_a_power_vector_of_zeros_in_a_file_is_replaced():
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(4, 3), "power")
    state = {key: 0 * value if key.endswith(".v") else value for key, value in layer.state_dict().items()}
    layer.load_state_dict(state)
    for _ in range(50):
        layer(torch.ones(2, 4))
    assert sigma(layer.eval().weight) == pytest.approx(1, rel=1e-3)


BEYOND = {(3, 14): 1.05, (7, 14): 1.25, (3, 7): 1.19, (7, 7): 1.78}  # (kernel, map) -> worst, as documented


@pytest.mark.parametrize(("kernel", "side"), BEYOND)
def test_how_far_the_bound_of_a_convolution_is_above(kernel, side):
    for seed in range(6):
        torch.manual_seed(seed)
        layer = nn.Conv2d(1, 1, kernel, bias=False, padding=kernel // 2)
        with torch.no_grad():
            layer.weight.copy_((layer.weight, layer.weight.abs(), layer.weight.sign())[seed % 3])
        norm = operator(settled(spectral_norm(layer, "bound", size=(side, side))), (side, side))
        assert 1 / BEYOND[kernel, side] < norm <= 1 + 1e-5


@pytest.mark.parametrize("kernel", [3, 7])
def test_no_factor_holds_for_all_convolutions(kernel):
    """On a 1x1 map only the centre of a kernel of ones takes part; the torus is as large as the kernel."""
    layer = nn.Conv2d(1, 1, kernel, bias=False, padding=kernel // 2)
    nn.init.ones_(layer.weight)
    layer = settled(spectral_norm(layer, "bound", size=(1, 1)))
    assert operator(layer, (1, 1)) == pytest.approx(1 / kernel**2, rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(5, 4), lambda: nn.Conv2d(3, 4, 2, groups=1)], ids=["linear", "conv"]
)
def test_gradcheck(method, make):
    torch.manual_seed(0)
    layer = spectral_norm(make().double(), method).eval()
    (weight,) = (p for name, p in layer.named_parameters() if "original" in name)

    def divided(original):
        return torch.func.functional_call(layer.parametrizations.weight[0], {}, (original,))

    assert torch.autograd.gradcheck(divided, (weight.detach().clone().requires_grad_(),), atol=1e-7)


CONVS = {
    "zeros": {"padding": 1},
    "stride": {"padding": 1, "stride": 2},
    "no padding": {},
    "much padding": {"padding": 3},
    "dilation": {"padding": 2, "dilation": 2},
    "groups": {"padding": 1, "groups": 2},
    "same": {"padding": "same"},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "circular, stride": {"padding": 1, "padding_mode": "circular", "stride": 2},
}


def conv(kernel=3, **options):
    torch.manual_seed(1)
    return nn.Conv2d(4, 6, kernel, bias=False, **options)


@pytest.mark.parametrize("options", CONVS.values(), ids=CONVS)
@pytest.mark.parametrize("size", [(5, 5), (6, 7)])
def test_operator_norm_of_a_convolution(options, size):
    """`bound` is one, and a good one without a stride; `power` finds the norm itself."""
    bound, power = (spectral_norm(conv(**options), method, 50, size=size) for method in ("bound", "power"))
    for _ in range(4):
        _ = power.weight
    least = 0.3 if "stride" in options else 0.8
    assert least < operator(settled(bound), size) <= 1 + 1e-5
    assert operator(settled(power.eval()), size) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("size", [(3, 3), (5, 6)])
@pytest.mark.parametrize("made", [lambda: conv(padding=1, padding_mode="circular"), lambda: conv(1),
                                  lambda: conv(1, stride=2), lambda: conv(1, padding=1)])  # fmt: skip
def test_exact_operator_norm(made, size):
    assert operator(settled(spectral_norm(made(), "exact", size=size)), size) == pytest.approx(1, abs=1e-5)


def test_the_matrix_of_a_convolution_is_another_norm():
    """A kernel of ones: the matrix has norm 3, the operator almost 9 on a large image."""
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(layer.weight)
    assert operator(settled(spectral_norm(deepcopy(layer), "exact")), (12, 12)) > 2.7
    assert operator(settled(spectral_norm(deepcopy(layer), "bound", size=(12, 12))), (12, 12)) <= 1 + 1e-5


def test_frequencies_are_those_of_the_circulant():
    """All singular values of the whole matrix, each of the frequencies that are left out by its conjugate."""
    layer = conv(padding=1, padding_mode="circular").double()
    basis = torch.eye(4 * 12, dtype=torch.float64).view(-1, 4, 3, 4)
    whole = torch.linalg.svdvals(layer(basis).flatten(1).detach())
    found = torch.linalg.svdvals(frequencies(layer.weight.detach(), (3, 4))).flatten()
    assert all((whole - value).abs().min() < 1e-10 for value in found)
    assert float(found.max()) == pytest.approx(float(whole[0]))


@pytest.mark.parametrize("method", METHODS)
def test_saved_copied_assigned(method):
    layer = spectral_norm(linear(), method)
    layer(torch.ones(1, 64)).sum().backward()
    copy, other = deepcopy(layer).eval(), spectral_norm(nn.Linear(64, 64), method).eval()
    other.load_state_dict(layer.state_dict())
    wanted = layer.eval().weight
    assert torch.equal(copy.weight, wanted) and torch.equal(other.weight, wanted)
    with torch.no_grad():
        assert torch.equal(other.weight, wanted)  # and kept
        layer.weight = 5 * wanted
        assert sigma(layer.weight) == pytest.approx(1, abs=0.03)
    plain = settled(layer)
    assert type(plain) is nn.Linear and torch.equal(plain.weight, layer.weight)
    assert list(copy.state_dict()) == list(layer.state_dict())  # the other stays what it is


@pytest.mark.parametrize("method", METHODS)
def test_autocast_and_half(method):
    layer = spectral_norm(linear(), method).eval()
    wanted = layer.weight.detach()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.weight, wanted) and layer(torch.ones(1, 64)).dtype == torch.bfloat16
    half = layer.bfloat16().weight
    assert half.dtype == torch.bfloat16 and torch.allclose(half.float(), wanted, atol=2e-2)


@pytest.mark.parametrize("method", METHODS)
def test_no_random_number_is_drawn(method):
    """And two of a shape begin alike, as several processes do."""
    torch.manual_seed(0)
    first, second = nn.Linear(6, 6), None
    spectral_norm(first, method)
    after = torch.rand(())
    torch.manual_seed(0)
    second = nn.Linear(6, 6)
    assert torch.equal(torch.rand(()), after)
    spectral_norm(second, method)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_several_forwards_before_a_backward():
    """Each differentiates with the vectors that it had."""
    layer = spectral_norm(linear(), "power")
    (layer(torch.ones(1, 64)) + layer(torch.ones(1, 64))).sum().backward()
    assert layer.parametrizations.weight.original.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: nn.Linear(3, 3), {"method": "powr"}, r"'powr'; allowed: power, exact, bound\b.*Did you mean"),
        (lambda: nn.Linear(3, 3), {"steps": 0}, "steps is 0; allowed: a whole number >= 1"),
        (lambda: nn.Linear(3, 3), {"size": (3, 3)}, "leave it out for a Linear"),
        (lambda: nn.LayerNorm(3), {}, "takes a Linear or a Conv2d, got LayerNorm"),
        (lambda: spectral_norm(nn.Linear(3, 3)), {}, "it is parametrised already"),
        (lambda: conv(padding=1), {"size": 14}, r"size is 14; allowed: height and width"),
        (lambda: conv(padding=1), {"size": (0, 4)}, r"size is \(0, 4\)"),
        (lambda: conv(padding=1), {"method": "exact", "size": (5, 5)}, "circular padding that keeps the size"),
        (lambda: conv(padding=1, padding_mode="reflect"), {"size": (5, 5)}, "it takes zeros and circular"),
        (lambda: conv(padding=2, padding_mode="circular"), {"size": (5, 5)}, "must not repeat a row"),
        (lambda: conv(padding=1, padding_mode="circular"), {"size": (2, 5)}, "must not repeat a row"),
    ],
)  # fmt: skip
def test_faults(make, options, message):
    layer = make()
    with pytest.raises(OptionError, match=message):
        spectral_norm(layer, **options)
