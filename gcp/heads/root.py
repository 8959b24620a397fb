"""Heads that take the matrix square root of the covariance: one solver, one rule, one line each."""

from functools import partial
from typing import Any

from torch import Tensor

from gcp.gradients import RULES
from gcp.heads.base import HEADS, Head, HeadKind
from gcp.ops.triangle import triangle_size
from gcp.solvers import SOLVERS
from gcp.sqrtm import Root

NAMED = ("rule", "solver", "side", "form", "precision")


class CovarianceRoot(Head):
    """triangle(sqrt(covariance(reduce(x)))); further arguments are those of `gcp.covariance_sqrt`."""

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", **root: Any):
        super().__init__(in_channels, dim, reduction)
        named = {key: root.pop(key) for key in NAMED if key in root}
        self.root = Root.create(**named, options=root)
        self.out_features = triangle_size(self.channels)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.root.method}, side={self.root.side}"

    def pool(self, x: Tensor) -> Tensor:
        return self.root.of_features(x, packed=True)


def _register(name: str, solver: str, rule: str = "exact") -> None:
    entry = RULES[rule] if solver == "eig" else SOLVERS[solver]
    takes = ("side", "form", "precision") if solver == "eig" else ("side", "precision")
    kind = HeadKind(partial(CovarianceRoot, solver=solver, rule=rule), takes, options=entry.obj)
    HEADS.add(name, kind, summary=entry.summary, paper=entry.paper)


_register("svd_exact", "eig", "exact")
_register("svd_original", "eig", "original")
_register("svd_pade", "eig", "pade")
_register("svd_taylor", "eig", "taylor")
_register("svd_pi", "eig", "power_iteration")
_register("svd_newton", "eig", "newton")
_register("svd_trunc", "eig", "truncate")
_register("svd_topn", "eig", "top_n")
_register("newton_schulz", "newton_schulz")
_register("polar_express", "polar_express")
_register("mpa_lyapunov", "mpa")
_register("mtp_lyapunov", "mtp")
