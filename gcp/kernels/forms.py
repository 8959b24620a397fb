"""Which kernel computes the weight of a rule. A rule that is not here is computed by torch on every device."""

from collections.abc import Callable
from typing import Any, NamedTuple

from gcp.gradients import Rule
from gcp.gradients.exact import Exact
from gcp.gradients.newton import Newton
from gcp.gradients.original import Original
from gcp.gradients.pade import Pade
from gcp.gradients.power_iteration import PowerIteration
from gcp.gradients.taylor import Taylor
from gcp.gradients.top_n import TopN
from gcp.gradients.truncate import Truncate


class Form(NamedTuple):
    """Name of the rule in heads.cu, and the parameter of the kernel from the rule's options."""

    name: str
    parameter: Callable[[Any], float] = lambda rule: 0.0


# by the rule's class itself: a subclass may change the weight
FORMS: dict[type[Rule], Form] = {
    Exact: Form("Exact"),
    Pade: Form("Exact"),
    TopN: Form("Exact"),  # dropped eigenvalues arrive as zeros
    Original: Form("Original"),
    Taylor: Form("Taylor", lambda rule: float(rule.degree + 1)),
    PowerIteration: Form("PowerIteration", lambda rule: rule.iterations - 0.5),
    Truncate: Form("Truncate", lambda rule: float(rule.threshold)),
    Newton: Form("Newton", lambda rule: float(rule.iterations)),
}

# the same in torch, from name and parameter
TWINS: dict[str, Callable[[float], Rule]] = {
    "Exact": lambda parameter: Exact(),
    "Original": lambda parameter: Original(),
    "Taylor": lambda parameter: Taylor(round(parameter) - 1),
    "PowerIteration": lambda parameter: PowerIteration(round(parameter + 0.5)),
    "Truncate": lambda parameter: Truncate(parameter),
    "Newton": lambda parameter: Newton(round(parameter)),
}
