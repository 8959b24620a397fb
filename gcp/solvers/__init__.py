"""Solvers of the forward root, one per file. `eig` takes a backward rule; the others bring their own."""

from gcp.registry import import_all
from gcp.solvers.base import SOLVERS, Solver, create_solver, solver_options

import_all(__name__, __path__)

__all__ = ["SOLVERS", "Solver", "create_solver", "solver_options"]
