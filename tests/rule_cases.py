"""Rules, functions, spectra and upstream gradients for the weight kernels, with the check against the rule in float64.

A case of a function is `of`: the function of the spectrum, its ridge, and the number of channels; None for the root.
"""

import torch

from gcp.functions import FUNCTIONS, create_function
from gcp.gradients import RULES, create_rule
from gcp.kernels.launch import REAL_NAMES, SPECTRAL_CORE
from gcp.ops.numerics import inverse_or_zero, sym

SIZES = [1, 5, 16, 33, 64, 257]
REALS = [torch.float32, torch.float64]
OPTIONS = {
    "taylor": [{"degree": 0}, {"degree": 3}],
    "power_iteration": [{"iterations": 1}],
    "truncate": [{"threshold": 0.5}, {"threshold": 0}],
    "newton": [{"iterations": 1}, {"iterations": 3}],
    "top_n": [{"keep": 0.5}],
}
CASES = [(str(name), options) for name in RULES for options in [{}, *OPTIONS.get(str(name), [])]]
FUNCTION_OPTIONS = [(str(name), {}) for name in FUNCTIONS] + [("power", {"exponent": p}) for p in (0.3, 2, -1.5)]
# one rule for each functor, with a ridge and, where the function is finite at zero, without
FUNCTION_CASES = [
    (name, options, rule, ridge)
    for name, options in FUNCTION_OPTIONS
    for rule in {RULES[rule].obj.kernel: str(rule) for rule in reversed(list(RULES))}.values()
    for ridge in (0.0, 2.0**-7)
    if RULES[rule].obj.has_function(name) and (ridge or create_function(name, **options).finite_at_zero)
]
# largest difference over the largest entry; a kernel differs from torch by the order of a few roundings
TOLERANCE = {torch.float32: 3e-5, torch.float64: 1e-13}


def spectra(n, dtype):
    """Decaying over six decades, repeated and nearly repeated, partly null, null: (4, n)."""
    generator = torch.Generator().manual_seed(n)
    decaying = torch.logspace(0, -6, n, dtype=torch.float64)
    repeated = torch.ones(n, dtype=torch.float64)
    repeated[n // 2 :] = 0.25
    repeated[::3] *= 1 + 1e-6
    partly = torch.rand(n, generator=generator, dtype=torch.float64)
    partly[torch.rand(n, generator=generator) < 0.4] = 0
    return torch.stack([decaying, repeated, partly, torch.zeros(n, dtype=torch.float64)]).to(dtype)


def upstream(n, dtype):
    """Symmetric up to an error far above rounding, which the kernel has to take out: (4, n, n)."""
    S = torch.randn(4, n, n, generator=torch.Generator().manual_seed(n + 1), dtype=torch.float64)
    return (sym(S) + 0.01 * S).to(dtype)


def expected(rule, kept, S, subtract, of=None):
    """In float64, by the methods of the rule."""
    kept, S = kept.double(), S.double()
    if of is not None:
        function, ridge, channels = of
        core, _, c = rule.function_core(function, ridge, kept, sym(S), False, channels)
        w0 = rule.function_core(function, ridge, kept, S, True, channels)[1]
    else:
        core, c = rule.core(kept, sym(S))
        w0 = rule.null_weight(kept)
    return (core - S * w0[:, None, :] if subtract else core), w0, c


def close(got, wanted, scale=None):
    """Relative to the largest entry of a matrix, or to `scale` (B,)."""
    assert got.isfinite().all()
    error = (got.double() - wanted).abs().flatten(1).amax(1)
    scale = wanted.abs().flatten(1).amax(1) if scale is None else scale
    return bool((error <= TOLERANCE[got.dtype] * scale).all())


def run(launcher, rule, kept, S, subtract, of=None):
    """Core, w0 and the terms of the trace term, by a launcher."""
    core, w0, terms = torch.full_like(S, torch.nan), torch.full_like(kept, torch.nan), torch.full_like(kept, torch.nan)
    n = kept.shape[1]
    function, ridge, channels = of or (create_function("sqrt"), 0.0, n)
    parameters = (rule.kernel_parameter, function.kernel_parameter, ridge)
    arguments = (kept, S, core, w0, terms, *parameters, n, channels, len(kept), subtract)
    launcher(SPECTRAL_CORE, (REAL_NAMES[S.dtype], function.kernel, rule.kernel), n, len(kept), arguments)
    return core, w0, terms


def run_function(launcher, case, dtype, device="cpu"):
    """`run` of a case of FUNCTION_CASES, and the arguments of `check` behind its outputs."""
    name, options, rule, ridge = case
    rule, n = create_rule(rule), 33
    kept, S = rule.spectrum(spectra(n, dtype), n), upstream(n, dtype)
    of = (create_function(name, **options), ridge, n + 7)
    return run(launcher, rule, kept.to(device), S.to(device), True, of), rule, kept, S, True, of


def trace_size(kept, S, wanted):
    """What a trace term (B,) is measured by: a sum that cancels, against the size of its terms."""
    return S.double().diagonal(dim1=1, dim2=2).abs().sum(1) * wanted[1].abs().amax(1)


def check(outputs, rule, kept, S, subtract, of=None):
    core, w0, terms = outputs
    wanted = expected(rule, kept, S, subtract, of)
    assert close(core, wanted[0]) and close(w0, wanted[1])
    if wanted[2] is None:
        assert not terms.any()
    else:  # a sum that cancels: against the size of its terms
        size = S.double().diagonal(dim1=1, dim2=2).abs().sum(1) * inverse_or_zero(kept.double().sum(1).sqrt())
        size = size if of is None else trace_size(kept, S, wanted)
        assert close(terms.sum(1, keepdim=True), wanted[2][:, None], size)
