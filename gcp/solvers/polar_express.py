"""`polar_express`: minimax quintic steps on P / n, n >= l_max: the accuracy of the SVD by products only.

With (lower, steps) = (5e-3, 6) the uniform error is 2.8e-11 for every eigenvalue >= lower^2 n; float32 leaves
3e-6 in the output and 2e-5 in the gradient at condition number 1e4 (equal samples or twin channels: up to 5e-4
in the gradient, because a null vector that is not known in advance meets an inverse root of 800). Amsel,
Persson, Musco and Gower 2025 (arXiv:2505.16932).

Rounded products (`products`) cost accuracy that the method has: with tf32 1e-3 in the output and 1e-3, 2e-3, 1e-2 in
the gradient at condition number 1e2, 1e3, 1e4; at 1e5 the steps diverge (NaN), since the rounding makes small
eigenvalues negative. With bf16 (lower 0.05, 4 steps) 4e-3 to 2e-2, and 5e-3, 2e-2, 4e-1 in the gradient.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from gcp.errors import OptionError
from gcp.ops import polar_express
from gcp.ops.polar_express import MARGIN, Quintics
from gcp.ops.products import PRODUCTS
from gcp.ops.remez import sign_quintics
from gcp.options import option
from gcp.solvers.base import ROUNDING, SOLVERS, Solver, check_fraction

LEAST_BF16 = 0.05  # `lower` above what rounding to 7 bits does to an eigenvalue


@SOLVERS.register(
    "polar_express",
    summary="minimax quintic steps on P / n: SVD accuracy, products only",
    paper="Amsel et al. 2025",
)
@dataclass(frozen=True)
class PolarExpress(Solver):
    """Quartic trace norm, composed minimax quintics."""

    lower: float = option(5e-3, "roots of eigenvalues resolved, relative to the largest", minimum=0)
    steps: int = option(6, "quintic steps", minimum=1)
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

    def norm(self, P: Tensor) -> Tensor:
        return polar_express.normalise(P)[0]

    def norm_gradient(self, A: Tensor) -> Tensor:
        # nu = margin (tr P^4)^(1/4), so d nu / d P = margin^4 P^3 / nu^3
        return MARGIN**4 * (A @ A @ A)

    def phi(self, A: Tensor) -> Tensor:
        return polar_express.roots(A, A @ A, self.quintics, self.products)[0]

    def psi(self, A: Tensor) -> Tensor:
        return polar_express.roots(A, A @ A, self.quintics, self.products)[1]

    def phi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        Y, _, dY, _ = polar_express.roots_tangent(A, A @ A, E, self.quintics, self.products)
        return Y, dY

    def psi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        _, Z, _, dZ = polar_express.roots_tangent(A, A @ A, E, self.quintics, self.products)
        return Z, dZ
