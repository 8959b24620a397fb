r"""The middle of every eigen-backward on a GPU: W o S by the rule's weight, without W in memory.

    core = W o sym(S) [- S diag(w0)],     w0 the weight between an eigenvalue and a null one,     c the trace term

One kernel for S, one pass over memory, with the functor that the rule names; without CuPy the methods of the rule.
"""

import torch
from torch import Tensor

from gcp.gradients import RULES, Rule
from gcp.gradients.base import Core
from gcp.kernels.launch import REAL_NAMES, SPECTRAL_CORE, launch, never_differentiated, register, runs_kernel
from gcp.ops.numerics import sym


def functor(rule: Rule) -> str | None:
    """The functor of `heads.cu` for a rule, by its own class: a subclass may change the weight."""
    return vars(type(rule)).get("kernel")


def rule_of(name: str) -> type[Rule]:
    """The rule that a functor computes; the first one where several share it."""
    return next(entry.obj for entry in RULES.list() if entry.obj.kernel == name)


def spectral_core(rule: Rule, kept: Tensor, S: Tensor, subtract: bool = False) -> Core:
    """`rule.spectral_core(kept, S, subtract)`, by its kernel if it has one."""
    name = functor(rule)
    if name is None:
        return rule.spectral_core(kept, S, subtract)
    core, w0, c = torch.ops.gcp.spectral_core(kept, S, name, rule.kernel_parameter, subtract)
    return core, w0 if subtract else None, c if rule.has_trace_term else None


@register("spectral_core")
def _spectral_core(
    kept: Tensor, S: Tensor, functor: str, parameter: float, subtract: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs that nobody asked for are empty."""
    nothing = kept.new_empty(0)
    if runs_kernel(S):
        kept, S = kept.contiguous(), S.contiguous()
        core, w0, terms = torch.empty_like(S), torch.empty_like(kept), torch.empty_like(kept)
        batch, n = kept.shape
        arguments = (kept, S, core, w0, terms, parameter, n, batch, subtract)
        launch(SPECTRAL_CORE, (REAL_NAMES[S.dtype], functor), n, batch, arguments)
        c = terms.sum(1) if rule_of(functor).has_trace_term else None
    else:
        rule = rule_of(functor).of_kernel_parameter(parameter)
        core, c = rule.core(kept, sym(S))
        w0 = rule.null_weight(kept) if subtract else kept
        core = core.addcmul_(S, w0[:, None, :], value=-1) if subtract else core
    return core, w0 if subtract else nothing, nothing.clone() if c is None else c


@_spectral_core.register_fake
def _(kept: Tensor, S: Tensor, functor: str, parameter: float, subtract: bool) -> tuple[Tensor, Tensor, Tensor]:
    core = S.new_empty(S.shape)
    w0 = kept.new_empty(kept.shape if subtract else (0,))
    return core, w0, kept.new_empty(kept.shape[0] if rule_of(functor).has_trace_term else 0)


never_differentiated(_spectral_core)
