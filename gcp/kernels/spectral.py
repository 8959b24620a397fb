r"""The middle of every eigen-backward on a GPU: W o S by the rule's weight, without W in memory.

    core = W o sym(S) [- S diag(w0)],     w0 the weight between an eigenvalue and a null one,     c the trace term

for the root, or for a function of the spectrum with a ridge. One kernel for S, one pass over memory, with the functors
that function and rule name; without CuPy the methods of the rule.
"""

import torch
from torch import Tensor

from gcp.functions import FUNCTIONS, SpectralFunction
from gcp.gradients import RULES, Rule
from gcp.gradients.base import Core
from gcp.kernels.launch import REAL_NAMES, ROOT, SPECTRAL_CORE, launch, never_differentiated, register, runs_kernel
from gcp.ops.numerics import sym


def functor(choice: Rule | SpectralFunction) -> str | None:
    """The functor of `heads.cu` for a rule or a function, by its own class: a subclass may change the weight."""
    return vars(type(choice)).get("kernel")


def rule_of(name: str) -> type[Rule]:
    """The rule that a functor computes; the first one where several share it."""
    return next(entry.obj for entry in RULES.list() if entry.obj.kernel == name)


def function_of(name: str) -> type[SpectralFunction]:
    """The function of the spectrum that a functor computes."""
    return next(entry.obj for entry in FUNCTIONS.list() if entry.obj.kernel == name)


def spectral_core(rule: Rule, kept: Tensor, S: Tensor, subtract: bool = False) -> Core:
    """`rule.spectral_core(kept, S, subtract)`, by its kernel if it has one."""
    name = functor(rule)
    if name is None:
        return rule.spectral_core(kept, S, subtract)
    core, w0, c = torch.ops.gcp.spectral_core(kept, S, name, rule.kernel_parameter, subtract)
    return core, w0 if subtract else None, c if rule.has_trace_term else None


def function_core(
    function: SpectralFunction, ridge: float, rule: Rule, kept: Tensor, S: Tensor, subtract: bool, channels: int
) -> Core:
    """`rule.function_core(function, ...)`, by a kernel if both have one."""
    own, name = functor(function), functor(rule)
    if own is None or name is None:
        return rule.function_core(function, ridge, kept, S, subtract, channels)
    parameters = (name, rule.kernel_parameter, subtract, own, function.kernel_parameter, ridge, channels)
    core, w0, c = torch.ops.gcp.spectral_core(kept, S, *parameters)
    return core, w0 if subtract else None, c if rule.has_trace_term else None


@register("spectral_core")
def _spectral_core(
    kept: Tensor,
    S: Tensor,
    functor: str,
    parameter: float,
    subtract: bool,
    function: str = ROOT,
    exponent: float = 0.0,
    ridge: float = 0.0,
    channels: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs that nobody asked for are empty."""
    nothing = kept.new_empty(0)
    rule = rule_of(functor)
    if runs_kernel(S):
        kept, S = kept.contiguous(), S.contiguous()
        core, w0, terms = torch.empty_like(S), torch.empty_like(kept), torch.empty_like(kept)
        batch, n = kept.shape
        arguments = (kept, S, core, w0, terms, parameter, exponent, ridge, n, channels, batch, subtract)
        launch(SPECTRAL_CORE, (REAL_NAMES[S.dtype], function, functor), n, batch, arguments)
        c = terms.sum(1) if rule.has_trace_term else None
    elif function == ROOT and ridge == 0:
        core, c = rule.of_kernel_parameter(parameter).core(kept, sym(S))
        w0 = rule.of_kernel_parameter(parameter).null_weight(kept) if subtract else kept
        core = core.addcmul_(S, w0[:, None, :], value=-1) if subtract else core
    else:
        chosen = function_of(function).of_kernel_parameter(exponent)
        computing = rule.of_kernel_parameter(parameter)
        core, null_weight, c = computing.function_core(chosen, ridge, kept, sym(S), subtract, channels)
        w0 = kept if null_weight is None else null_weight
    return core, w0 if subtract else nothing, nothing.clone() if c is None else c


@_spectral_core.register_fake
def _(
    kept: Tensor,
    S: Tensor,
    functor: str,
    parameter: float,
    subtract: bool,
    function: str = ROOT,
    exponent: float = 0.0,
    ridge: float = 0.0,
    channels: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    core = S.new_empty(S.shape)
    w0 = kept.new_empty(kept.shape if subtract else (0,))
    return core, w0, kept.new_empty(kept.shape[0] if rule_of(functor).has_trace_term else 0)


never_differentiated(_spectral_core)
