r"""The middle of every eigen-backward: W o S by the rule's weight, without W in memory.

    core = W o sym(S) [- S diag(w0)],     w0 the weight between an eigenvalue and a null one,     c the trace term

On CUDA one kernel for S, one pass over memory; elsewhere the methods of the rule.
"""

import torch
from torch import Tensor

from gcp.gradients import Rule
from gcp.kernels.forms import FORMS, TWINS
from gcp.kernels.launch import REAL_NAMES, launch
from gcp.kernels.operator import never_differentiated, on_gpu, register, runs_kernel
from gcp.kernels.source import SPECTRAL_CORE
from gcp.ops.matrix import sym

Core = tuple[Tensor, Tensor | None, Tensor | None]


def spectral_core(rule: Rule, kept: Tensor, S: Tensor, subtract: bool = False) -> Core:
    """What a rule makes of S.

    Args:
        rule: in its folded form.
        kept: eigenvalues (B, n) >= 0, exact zeros are null.
        S: V^T G V (B, n, n), symmetric up to rounding.
        subtract: S diag(w0) from the core, as the sample side needs it.

    Returns:
        core (B, n, n); w0 (B, n) if `subtract`, else None; c (B,), or None for a rule without a trace term.
    """
    form = FORMS.get(type(rule))
    if form is None or not on_gpu(S):
        return _by_rule(rule, kept, S, subtract)
    core, w0, c = torch.ops.gcp.spectral_core(kept, S, form.name, form.parameter(rule), subtract)
    return core, w0 if subtract else None, c if form.name == "Newton" else None


def _by_rule(rule: Rule, kept: Tensor, S: Tensor, subtract: bool) -> Core:
    core, c = rule.core(kept, S)
    if not subtract:
        return core, None, c
    w0 = rule.null_weight(kept)
    return core.addcmul_(S, w0[:, None, :], value=-1), w0, c


@register("spectral_core")
def _spectral_core(
    kept: Tensor, S: Tensor, form: str, parameter: float, subtract: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs that nobody asked for are empty."""
    if runs_kernel(S):
        kept, S = kept.contiguous(), S.contiguous()
        core, w0, terms = torch.empty_like(S), torch.empty_like(kept), torch.empty_like(kept)
        batch, n = kept.shape
        arguments = (kept, S, core, w0, terms, parameter, n, batch, subtract)
        launch(SPECTRAL_CORE, (REAL_NAMES[S.dtype], form), n, batch, arguments)
        c: Tensor | None = terms.sum(1) if form == "Newton" else None
    else:
        core, c = TWINS[form](parameter).core(kept, sym(S))
        w0 = TWINS[form](parameter).null_weight(kept) if subtract else kept
        core = core.addcmul_(S, w0[:, None, :], value=-1) if subtract else core
    nothing = kept.new_empty(0)
    return core, w0 if subtract else nothing, nothing.clone() if c is None else c


@_spectral_core.register_fake
def _(kept: Tensor, S: Tensor, form: str, parameter: float, subtract: bool) -> tuple[Tensor, Tensor, Tensor]:
    core = S.new_empty(S.shape)
    w0 = kept.new_empty(kept.shape if subtract else (0,))
    return core, w0, kept.new_empty(kept.shape[0] if form == "Newton" else 0)


never_differentiated(_spectral_core)
