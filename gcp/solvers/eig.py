"""`eig`: the exact root by a symmetric eigendecomposition; its backward is one of the rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gcp.errors import OptionError
from gcp.gradients import create_rule
from gcp.roots.eigen import Eigen, PublishedEigen
from gcp.roots.root import Method
from gcp.solvers.base import SOLVERS, Solver


@SOLVERS.register("eig", summary="symmetric eigendecomposition, with any backward rule")
@dataclass(frozen=True)
class Eig(Solver):
    """The options are those of the rule."""

    @classmethod
    def create_method(cls, name: str, rule: str, form: str, options: Mapping[str, Any]) -> Method:
        chosen = create_rule(rule, **options)
        if form == "folded":
            return Eigen(chosen)
        published = chosen.published()
        if published is None:
            raise OptionError(f"rule {rule!r} has no published form; use form='folded', or rule='original'.")
        return PublishedEigen(published)
