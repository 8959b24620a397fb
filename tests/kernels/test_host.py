"""The CUDA source, run on the CPU, against the rules and the triangle in torch."""

from itertools import product

import mpmath
import pytest
import torch
from rule_cases import (
    CASES,
    FUNCTION_CASES,
    FUNCTION_OPTIONS,
    REALS,
    SIZES,
    check,
    run,
    run_function,
    spectra,
    upstream,
)

from gcp.functions import FUNCTIONS, create_function
from gcp.gradients import RULES, create_rule
from gcp.kernels import launch, triangle
from gcp.kernels.launch import FUNCTORS, KERNELS, REAL_NAMES, TRIANGLE_PACK, TRIANGLE_SPREAD
from gcp.kernels.spectral import function_of, functor, rule_of
from gcp.ops.numerics import on_gpu


def test_every_rule_and_function_has_a_kernel():
    """One without is computed by torch on every device; this says so, and is the place to list it."""
    assert {str(name) for name in FUNCTIONS if functor(create_function(str(name))) is None} == set()
    for name, options in FUNCTION_OPTIONS:
        function = create_function(name, **options)
        assert function_of(function.kernel).of_kernel_parameter(function.kernel_parameter) == function
    assert {str(name) for name in RULES if functor(create_rule(str(name))) is None} == set()
    assert {rule_of(name).kernel for name in FUNCTORS} == set(FUNCTORS)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_rule_of_a_functor_has_the_weight_of_the_rule(name, options):
    rule = create_rule(name, **options)
    fallback = rule_of(rule.kernel).of_kernel_parameter(rule.kernel_parameter)
    kept = rule.spectrum(spectra(7, torch.float64), 7)
    assert torch.equal(fallback.weight(kept), rule.weight(kept))
    assert torch.equal(fallback.null_weight(kept), rule.null_weight(kept))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", REALS, ids=REAL_NAMES.get)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_weights(host, name, options, dtype, n):
    if options and n > 64:
        return  # other options take no other way through the tiles
    rule = create_rule(name, **options)
    kept, S = rule.spectrum(spectra(n, dtype), n), upstream(n, dtype)
    for subtract in (False, True):
        check(run(host, rule, kept, S, subtract), rule, kept, S, subtract)


@pytest.mark.parametrize("dtype", REALS, ids=REAL_NAMES.get)
def test_functions_of_the_spectrum(host, dtype):
    """Every function with every rule, with a ridge and without, beside the methods of the rule in float64."""
    for case in FUNCTION_CASES:
        check(*run_function(host, case, dtype))


SCALARS = {
    "sqrt": mpmath.sqrt,
    "inverse_sqrt": lambda x: 1 / mpmath.sqrt(x),
    "power": lambda x, exponent=0.5: x ** mpmath.mpf(exponent),
    "log": mpmath.log,
    "inverse": lambda x: 1 / x,
}


@pytest.mark.parametrize(("name", "options"), FUNCTION_OPTIONS, ids=str)
def test_differences_against_50_digits(host, name, options):
    """Also of eigenvalues that are equal but for the last digit, where a quotient of differences would have none."""
    values = [3.0, 3 * (1 - 2.0**-52), 3 * (1 - 1e-10), 3 * (1 - 1e-6), 3.0, 0.4, 1e-4, 1e-9]
    of = create_function(name, **options), 0.0, len(values)
    for dtype in REALS:
        kept = torch.tensor([values], dtype=dtype)
        got = run(host, create_rule("exact"), kept, torch.ones(1, 8, 8, dtype=dtype), False, of)[0][0]
        with mpmath.workdps(80):
            points, f = [mpmath.mpf(value) for value in kept[0].tolist()], SCALARS[name]
            for i, j in product(range(8), repeat=2):
                x, y = points[i], points[j]
                if x == y:
                    x, y = x * (1 + mpmath.mpf(10) ** -30), x * (1 - mpmath.mpf(10) ** -30)
                wanted = float((f(x, **options) - f(y, **options)) / (x - y))
                assert float(got[i, j]) == pytest.approx(wanted, rel=1e-13 if dtype == torch.float64 else 3e-6)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("types", TRIANGLE_PACK.instances, ids="-".join)
def test_pack(host, types, n):
    given, wanted = ({"float": torch.float32, "double": torch.float64}[name] for name in types)
    Q = upstream(n, given)
    packed = torch.full((4, n * (n + 1) // 2), torch.nan, dtype=wanted)
    host(TRIANGLE_PACK, types, n, 4, (Q, packed, n, 4))
    rows, columns = torch.triu_indices(n, n)
    assert torch.equal(packed, Q[:, rows, columns].to(wanted))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("types", TRIANGLE_SPREAD.instances, ids="-".join)
def test_spread(host, types, n):
    given, wanted = ({"float": torch.float32, "double": torch.float64}[name] for name in types)
    g = torch.randn(4, n * (n + 1) // 2, generator=torch.Generator().manual_seed(n), dtype=torch.float64).to(given)
    for factor in (0.5, 1.0):
        Q = torch.full((4, n, n), torch.nan, dtype=wanted)
        host(TRIANGLE_SPREAD, types, n, 4, (g, Q, factor, n, 4))
        plain = torch.zeros(4, n, n, dtype=wanted)
        rows, columns = torch.triu_indices(n, n)
        plain[:, rows, columns] = g.to(wanted)
        assert torch.equal(Q, factor * (plain.triu(1) + plain.triu(1).mT) + torch.diag_embed(plain.diagonal(0, 1, 2)))


def test_a_grid_that_is_shorter_than_the_batch(host, monkeypatch):
    monkeypatch.setattr(launch, "MOST_BLOCKS", 3)
    rule = create_rule("newton")
    kept, S = spectra(33, torch.float64), upstream(33, torch.float64)
    check(run(host, rule, kept, S, True), rule, kept, S, True)


@pytest.mark.parametrize("side", ["channel", "sample"])
def test_whole_heads(host, as_on_gpu, side):
    """Forward and backward with every kernel in its place, against the CPU's own way."""
    from gcp.heads import create_head, list_heads

    x = torch.randn(2, 40, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    heads = [create_head(str(entry), 40, side=side) for entry in list_heads() if "side" in entry.obj.takes]

    def evaluate():
        leaf = x.clone().requires_grad_()
        return [((out := head(leaf)).detach(), *torch.autograd.grad(out.square().sum(), leaf)) for head in heads]

    plain = evaluate()
    calls = []
    as_on_gpu(lambda kernel, *rest: (calls.append(kernel.name), host(kernel, *rest)))
    for ours, theirs in zip(evaluate(), plain, strict=True):
        for got, wanted in zip(ours, theirs, strict=True):
            assert float((got - wanted).norm()) <= 1e-11 * float(wanted.norm())
    assert set(calls) == {kernel.name for kernel in KERNELS}


def test_under_sanitizers(sanitized):
    """No address outside a buffer and no undefined behaviour; the same numbers."""
    done = []
    rules = {RULES[name].obj.kernel: create_rule(str(name)) for name in RULES}
    for rule, dtype, n in product(rules.values(), REALS, SIZES):
        part = slice(1, 3) if n > 64 else slice(None)
        kept, S = spectra(n, dtype)[part].contiguous(), upstream(n, dtype)[part].contiguous()
        done.append((run(sanitized, rule, kept, S, True), rule, kept, S, True))
    done += [run_function(sanitized, case, torch.float32) for case in FUNCTION_CASES if case[2] in ("exact", "newton")]
    Q, packed = upstream(65, torch.float64), torch.empty(4, 65 * 33, dtype=torch.float32)
    sanitized(TRIANGLE_PACK, ("double", "float"), 65, 4, (Q, packed, 65, 4))
    half, back = torch.rand(4, 65 * 33), torch.empty(4, 65, 65, dtype=torch.float64)
    sanitized(TRIANGLE_SPREAD, ("float", "double"), 65, 4, (half, back, 1.0, 65, 4))
    sanitized.run()
    for case in done:
        check(*case)
    assert torch.equal(packed, triangle.select(Q).float()) and torch.equal(back, back.mT)


def test_sanitizers_would_find_a_fault(sanitized):
    """A buffer one number short."""
    Q, packed = upstream(33, torch.float64), torch.empty(4 * 33 * 17 - 1, dtype=torch.float64)
    sanitized(TRIANGLE_PACK, ("double", "double"), 33, 4, (Q, packed, 33, 4))
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        sanitized.run()


def test_kernels_stay_off_the_cpu():
    """Without a GPU nothing is looked for: not CuPy, not a driver."""
    assert not on_gpu(torch.ones(1)) and not launch.runs_kernel(torch.ones(1))
