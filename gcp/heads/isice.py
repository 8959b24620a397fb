r"""`isice`: the triangle of a sparse inverse covariance, by proximal gradient steps.

    minimise  tr(S L) - log det L + lambda sum |L_ij|,    S = P / tr P,    output  triangle(L / sqrt(tr L))

Rahman, Koniusz, Wang, Zhou, Moghadam and Sun, CVPR 2023 (arXiv:2304.11597). As in their code, L starts at S^-1 and step
i of n, with the rate t_i = rate (1 - i / (n - 1)), is

    D = S - L^-1,    L <- max(max(L, 0) - t (D + lambda), 0) - max(max(-L, 0) - t (lambda - D), 0),    L <- (L + L^T)/2

and an inverse is the square of the inverse root by seven Newton-Schulz steps, which stays bounded on a null space: 292
over the trace there, where the true inverse has none. The gradient is that of all these steps. Their ridge is drawn at
every call (1e-10 to 1e-9); here it is 1e-9. The last step has the rate 0 and is left out. Their second form, whose rate
and lambda come from a small network on the map, is tied to one size of the map and is not here.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gcp.heads.base import HEADS, HeadKind
from gcp.heads.covariance import Covariance
from gcp.ops import newton_schulz
from gcp.ops.numerics import add_identity_, inverse_or_zero, scaled, sym, trace
from gcp.options import option

RIDGE = 1e-9  # largest of the published ones
NEWTON_SCHULZ_STEPS = 7  # as published


@dataclass(frozen=True)
class SparseOptions:
    """Of the proximal gradient steps, with the published values."""

    sparsity: float = option(0.01, "weight lambda of the sum of absolute entries", minimum=0, maximum=100)
    rate: float = option(1.0, "first step length, which falls to 0", minimum=0, maximum=1000)
    iterations: int = option(5, "steps", minimum=2, maximum=1000)


class SparseInverse(Covariance):
    """triangle of the sparse inverse of the covariance."""

    def __init__(
        self,
        in_channels: int,
        dim: int | None = None,
        reduction: str = "conv",
        precision: str | None = None,
        **options: Any,
    ):
        super().__init__(in_channels, dim, reduction, precision)
        self.options = SparseOptions(**options)

    def normalised(self, P: Tensor) -> Tensor:
        L = self.sparse(scaled(P, inverse_or_zero(trace(P))))
        return scaled(L, inverse_or_zero(trace(L)).sqrt() * (trace(P) > 0))  # a constant map has no inverse

    def sparse(self, S: Tensor) -> Tensor:
        """L (B, d, d) of covariances with trace one."""
        L, n = damped_inverse(S), self.options.iterations
        for i in range(n - 1):
            t = self.options.rate * (1 - i / (n - 1))
            D = S - damped_inverse(L)
            above = (L.relu() - t * (D + self.options.sparsity)).relu()
            below = ((-L).relu() - t * (self.options.sparsity - D)).relu()
            L = sym(above - below)
        return L


def damped_inverse(A: Tensor) -> Tensor:
    """(A + ridge I)^-1 (B, d, d) by Newton-Schulz steps for the inverse root."""
    A = add_identity_(A.clone(), RIDGE)
    inverse_trace = inverse_or_zero(trace(A))
    root = newton_schulz.inverse_root(scaled(A, inverse_trace), NEWTON_SCHULZ_STEPS)
    return scaled(root @ root, inverse_trace)


HEADS.add(
    "isice",
    HeadKind(SparseInverse, takes=("precision",), options=SparseOptions),
    summary="sparse inverse covariance",
    paper="Rahman et al., CVPR 2023",
)
