"""`polar_express`: minimax quintic steps on P / n, n >= l_max: the root by products only.

With (lower, steps) = (5e-3, 6) the uniform error is 2.8e-11 for every eigenvalue >= lower^2 n, that is up to a
condition number of 4e4; float32 leaves 3e-6 in the output and 2e-5 in the gradient at 1e4. Null vectors that are not
known in advance meet an inverse root of 800, whose rounding costs the gradient up to 5e-4 with twin channels and 2e-3
with half the rank or a rank of one. On the CPU maps that lost more than a quarter of their rank are computed again in
float64, which leaves 1e-4; on a GPU precision=float64 does that (`gcp.roots.coupled`). Amsel, Persson, Musco and Gower
2025 (arXiv:2505.16932).

Rounded products (`products`) cost accuracy that the method has: with tf32 1e-3 in the output and 1e-3, 2e-3, 1e-2 in
the gradient at condition number 1e2, 1e3, 1e4; at 1e5 the steps diverge (NaN), since the rounding makes small
eigenvalues negative. With bf16 (lower 0.05, 4 steps) 4e-3 to 2e-2, and 5e-3, 2e-2, 4e-1 in the gradient.

The backward is the gradient of the exact root at the solver's output (`gcp.roots.coupled`).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from gcp.errors import OptionError
from gcp.ops.polar_express import Quintics, null_inverse_root, roots, roots_tangent, sign_quintics
from gcp.ops.products import PRODUCTS
from gcp.options import option
from gcp.solvers.base import ROUNDING, SOLVERS, CoupledSolver, check_fraction

LEAST_BF16 = 0.05  # `lower` above what rounding to 7 bits does to an eigenvalue


@SOLVERS.register(
    "polar_express",
    summary="minimax quintic steps on P / n: the root by products only",
    paper="Amsel et al. 2025",
)
@dataclass(frozen=True)
class PolarExpress(CoupledSolver):
    """Quartic trace norm, composed minimax quintics."""

    head = "polar_express"
    lower: float = option(5e-3, "roots of eigenvalues resolved, relative to the largest", minimum=0)
    steps: int = option(6, "quintic steps", minimum=1, maximum=20)
    products: str = option("full", ROUNDING, choices=PRODUCTS)

    if TYPE_CHECKING:  # no field: torch.compile before 2.12 would pass it to the constructor
        quintics: Quintics = field(init=False)

    def __post_init__(self) -> None:
        check_fraction("polar_express", "lower", self.lower)
        if self.products == "bf16" and self.lower < LEAST_BF16:
            raise OptionError(
                f"option products of 'polar_express' is 'bf16' with lower={self.lower!r}: the steps would diverge, "
                "because the rounding makes small eigenvalues negative; "
                f"take lower={LEAST_BF16:g} steps=4, or products='tf32'."
            )
        object.__setattr__(self, "quintics", sign_quintics(self.lower, self.steps)[0])

    @property
    def null_inverse_root(self) -> float:
        return null_inverse_root(self.quintics)

    def roots(self, A: Tensor, A2: Tensor) -> tuple[Tensor, Tensor]:
        return roots(A, A2, self.quintics, self.products)

    def roots_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return roots_tangent(A, A @ A, E, self.quintics, self.products)
