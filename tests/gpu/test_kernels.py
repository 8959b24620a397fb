"""The kernels on a card, where races, launch limits, streams and devices are real."""

import pytest
import torch
from rule_cases import CASES, FUNCTION_CASES, REALS, SIZES, expected, run, run_function, spectra, trace_size, upstream

from gcp import kernels
from gcp.gradients import create_rule
from gcp.kernels import triangle
from gcp.kernels.launch import REAL_NAMES, launch
from gcp.ops.numerics import inverse_or_zero

pytestmark = pytest.mark.usefixtures("with_kernels")
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12}  # expm1, log1p and pow differ by an ulp or two on the card


def differences(outputs, rule, kept, S, subtract, of=None):
    """Core, w0 and trace term against the rule in float64, relative to the size of each matrix."""
    core, w0, terms = (value.cpu().double() for value in outputs)
    wanted = expected(rule, kept, S, subtract, of)
    size = S.double().diagonal(dim1=1, dim2=2).abs().sum(1) * inverse_or_zero(kept.double().sum(1).sqrt())
    size = size if of is None else trace_size(kept, S, wanted)
    pairs = [(core, wanted[0], None), (w0, wanted[1], None)]
    if wanted[2] is not None:
        pairs.append((terms.sum(1, keepdim=True), wanted[2][:, None], size))
    for got, exact, scale in pairs:
        scale = exact.abs().flatten(1).amax(1) if scale is None else scale
        yield float(((got - exact).abs().flatten(1).amax(1) / scale.clamp(min=1e-30)).max())


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", REALS, ids=REAL_NAMES.get)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_weights(device, name, options, dtype, n):
    rule = create_rule(name, **options)
    kept, S = rule.spectrum(spectra(n, dtype), n), upstream(n, dtype)
    for subtract in (False, True):
        first, second = (run(launch, rule, kept.to(device), S.to(device), subtract) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert all(difference < TOLERANCE[dtype] for difference in differences(first, rule, kept, S, subtract))


@pytest.mark.parametrize("dtype", REALS, ids=REAL_NAMES.get)
@pytest.mark.parametrize("case", FUNCTION_CASES, ids=str)
def test_functions_of_the_spectrum(device, case, dtype):
    first, *about = run_function(launch, case, dtype, device)
    second = run_function(launch, case, dtype, device)[0]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(difference < TOLERANCE[dtype] for difference in differences(first, *about))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("given", REALS, ids=str)
@pytest.mark.parametrize("wanted", REALS, ids=str)
def test_triangle(device, given, wanted, n):
    Q = upstream(n, given)
    assert torch.equal(kernels.pack(Q.to(device), wanted).cpu(), triangle.select(Q).to(wanted))
    g = triangle.select(Q)
    assert torch.equal(kernels.spread(g.to(device), n, wanted).cpu(), triangle.plain_spread(g.to(wanted), n))


def test_more_matrices_than_blocks(device):
    g = torch.rand(70_000, 6, device=device)
    assert torch.equal(kernels.spread(g, 3), triangle.plain_spread(g, 3))
    kept, S = torch.rand(70_000, 3, device=device), torch.rand(70_000, 3, 3, device=device)
    S = S + S.mT
    got = kernels.spectral_core(create_rule("exact"), kept, S)[0]
    torch.testing.assert_close(got, create_rule("exact").core(kept, S)[0])


def test_nothing_waits(device, no_waiting):
    S = torch.rand(4, 64, 64, device=device)
    kept = torch.rand(4, 64, device=device)
    for _ in range(3):
        kernels.spectral_core(create_rule("newton"), kept, S, True)
        kernels.spread(kernels.pack(S), 64)


def test_stream_with_work_in_flight(device):
    """Written late on a stream of its own: a launch on any other stream would read what was there before."""
    side = torch.cuda.Stream(device)
    Q = torch.zeros(8, 256, 256, device=device)
    kernels.pack(Q)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)
        Q.fill_(1.0)
        packed = kernels.pack(Q)
        core = kernels.spectral_core(create_rule("exact"), Q[:, 0], Q)[0]
    side.synchronize()
    assert bool((packed == 1).all()) and bool((core == 0.5).all())


def test_two_devices():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    current = torch.cuda.current_device()
    results = []
    for index in (1, 0, 1):
        device = torch.device("cuda", index)
        kept, S = spectra(33, torch.float64), upstream(33, torch.float64)
        core = kernels.spectral_core(create_rule("taylor"), kept.to(device), S.to(device))[0]
        assert core.device == device and torch.cuda.current_device() == current
        results.append(core.cpu())
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
