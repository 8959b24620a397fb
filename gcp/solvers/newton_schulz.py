"""`newton_schulz`: five coupled Newton-Schulz steps on P / tr P (iSQRT-COV), with their exact derivative.

Five steps are far from the root (20-40 % in Q on ReLU features with d = 256), because the trace makes every
eigenvalue small; that is the published method. Beside it the rounding of `products` does not show: 7e-5 (tf32) and
6e-4 (bf16) of the gradient of the same steps. Li, Xie, Wang and Gao, CVPR 2018 (arXiv:1712.01034).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.ops import newton_schulz
from gcp.ops.numerics import trace
from gcp.ops.products import PRODUCTS
from gcp.options import option
from gcp.solvers.base import ROUNDING, SOLVERS, IterativeSolver


@SOLVERS.register("newton_schulz", summary="Newton-Schulz steps on P / tr P", paper="Li et al., CVPR 2018")
@dataclass(frozen=True)
class NewtonSchulz(IterativeSolver):
    """Trace norm, Newton-Schulz polynomial."""

    head = "newton_schulz"
    iterations: int = option(5, "Newton-Schulz steps", minimum=1, maximum=100)
    products: str = option("full", ROUNDING, choices=PRODUCTS)

    def norm(self, P: Tensor) -> Tensor:
        return trace(P)

    def norm_gradient(self, A: Tensor) -> Tensor:
        return torch.eye(A.shape[1], dtype=A.dtype, device=A.device)

    def phi(self, A: Tensor) -> Tensor:
        return newton_schulz.root(A, self.iterations, self.products)

    def psi(self, A: Tensor) -> Tensor:
        return newton_schulz.inverse_root(A, self.iterations, self.products)

    def phi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        return newton_schulz.root_tangent(A, E, self.iterations, self.products)

    def psi_tangent(self, A: Tensor, E: Tensor) -> tuple[Tensor, Tensor]:
        return newton_schulz.inverse_root_tangent(A, E, self.iterations, self.products)
