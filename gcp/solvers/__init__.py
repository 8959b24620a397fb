"""Solvers of the forward root, one idea a file. `eig` takes a backward rule; the others bring their own."""

from gcp.registry import import_all
from gcp.solvers.base import (
    FORMS,
    SIDES,
    SOLVERS,
    Solver,
    create_function_root,
    create_root,
    create_solver,
    solver_options,
)

import_all(__name__, __path__)

__all__ = [
    "FORMS",
    "SIDES",
    "SOLVERS",
    "Solver",
    "create_function_root",
    "create_root",
    "create_solver",
    "solver_options",
]
