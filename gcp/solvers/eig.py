"""`eig`: the exact root by a symmetric eigendecomposition; its backward is one of the rules."""

from dataclasses import dataclass
from typing import ClassVar

from gcp.solvers.base import SOLVERS, Solver


@SOLVERS.register("eig", summary="symmetric eigendecomposition, with any backward rule")
@dataclass(frozen=True)
class Eig(Solver):
    """float64 by default, as published: forming P squares the condition number."""

    default_precision: ClassVar[str] = "float64"
