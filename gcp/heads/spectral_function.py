r"""Heads that take another function of the covariance than its root: `power` and `log_euclidean`.

    power          triangle((P + e I)^a)         Li, Xie, Wang and Zuo, MPN-COV, ICCV 2017 (arXiv:1703.08050): a = 1/2
    log_euclidean  triangle(log(P + e I))        Ionescu, Vantzos and Sminchisescu, DeepO2P, ICCV 2015

P is the covariance of the reduced map and e >= 0 the ridge, in units of P. Value and gradient are those of
`gcp.covariance_function`: dL/dP = V (W o S) V^T with the divided differences of the function (`gcp.functions`), times
the ratio of a rule. A logarithm needs e > 0, as published: a null eigenvalue, which every map has with fewer
positions than channels, becomes log e. DeepO2P takes the second moment X X^T / M; here it is the covariance.

Neither head knows the scale of the features: e is absolute. Squares of features may leave float32, which is what the
output may not: P^4 of features of 1e6 does, and raises NonFiniteError.
"""

from dataclasses import dataclass
from typing import Any

from gcp.functions import FUNCTIONS
from gcp.gradients import RULES
from gcp.heads.base import HEADS, HeadKind, RootHead
from gcp.options import option, passed_on
from gcp.roots.root import Root
from gcp.solvers import create_function_root

RIDGES = {"power": 0.0, "log": 1e-3}  # of the functions; that of the logarithm as published


@dataclass(frozen=True)
class RuleOptions:
    """How the gradient is taken; the options of the rule are checked by the rule."""

    rule: str = option("exact", "backward rule of the eigendecomposition", choices=RULES)
    degree: int | None = passed_on("of rule=taylor")
    iterations: int | None = passed_on("of rule=power_iteration")
    threshold: float | None = passed_on("of rule=truncate")
    keep: float | None = passed_on("of rule=top_n")
    drop: int | None = passed_on("of rule=top_n, in place of keep")


@dataclass(frozen=True)
class PowerOptions(RuleOptions):
    """And the exponent."""

    exponent: float = option(0.5, "exponent, not 0", minimum=-4, maximum=4)
    ridge: float = option(RIDGES["power"], "added to every eigenvalue, in units of the covariance", minimum=0)


@dataclass(frozen=True)
class LogOptions(RuleOptions):
    """And the ridge, as published."""

    ridge: float = option(RIDGES["log"], "added to every eigenvalue, in units of the covariance", minimum=1e-30)


class CovarianceFunction(RootHead):
    """triangle(f(covariance(reduce(x)) + ridge I)); `function` is a name of `gcp.functions`."""

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", **options: Any):
        super().__init__(in_channels, dim, reduction)
        self.root = _create(**options)

    @classmethod
    def check(cls, **options: Any) -> None:
        _create(**options)


def _create(
    function: str,
    side: str = "auto",
    precision: str | None = None,
    rule: str = "exact",
    ridge: float | None = None,
    **options: Any,
) -> Root:
    ridge = RIDGES[function] if ridge is None else ridge
    given = {key: value for key, value in options.items() if value is not None}
    return create_function_root(function, ridge, rule, side, precision, given)


for name, function, kind, summary in (
    ("power", "power", PowerOptions, "power of the covariance, exponent 0.5 by default"),
    ("log_euclidean", "log", LogOptions, "logarithm of covariance + ridge"),
):
    HEADS.add(
        name,
        HeadKind(CovarianceFunction, ("side", "precision"), kind, {"function": function}),
        summary=summary,
        paper=FUNCTIONS[function].paper,
    )
