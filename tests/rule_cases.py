"""Rules, spectra and upstream gradients for the weight kernels, with the check against the rule itself in float64."""

import torch

from gcp.gradients import RULES
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


def expected(rule, kept, S, subtract):
    """In float64, by the methods of the rule."""
    kept, S = kept.double(), S.double()
    core, c = rule.core(kept, sym(S))
    w0 = rule.null_weight(kept)
    return (core - S * w0[:, None, :] if subtract else core), w0, c


def close(got, wanted, scale=None):
    """Relative to the largest entry of a matrix, or to `scale` (B,)."""
    assert got.isfinite().all()
    error = (got.double() - wanted).abs().flatten(1).amax(1)
    scale = wanted.abs().flatten(1).amax(1) if scale is None else scale
    return bool((error <= TOLERANCE[got.dtype] * scale).all())


def run(launcher, rule, kept, S, subtract):
    """Core, w0 and the terms of the trace term, by a launcher."""
    core, w0, terms = torch.full_like(S, torch.nan), torch.full_like(kept, torch.nan), torch.full_like(kept, torch.nan)
    n = kept.shape[1]
    arguments = (kept, S, core, w0, terms, rule.kernel_parameter, n, len(kept), subtract)
    launcher(SPECTRAL_CORE, (REAL_NAMES[S.dtype], rule.kernel), n, len(kept), arguments)
    return core, w0, terms


def check(outputs, rule, kept, S, subtract):
    core, w0, terms = outputs
    wanted = expected(rule, kept, S, subtract)
    assert close(core, wanted[0]) and close(w0, wanted[1])
    if wanted[2] is None:
        assert not terms.any()
    else:  # a sum that cancels: against the size of its terms
        size = S.double().diagonal(dim1=1, dim2=2).abs().sum(1) * inverse_or_zero(kept.double().sum(1).sqrt())
        assert close(terms.sum(1, keepdim=True), wanted[2][:, None], size)
