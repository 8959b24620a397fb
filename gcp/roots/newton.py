r"""The rule `newton` for the root and the inverse root of a covariance with a ridge e.

With l the eigenvalues plus e, tau the sum of all d of them, a = l / tau and the scalar iterates y and z of the rule,

    sqrt            W_ij = tau^(-1/2) y[a_i, a_j],    s_i =  tau^(-1/2) y(a_i)/2 - a_i W_ii
    inverse_sqrt    W_ij = tau^(-3/2) z[a_i, a_j],    s_i = -tau^(-3/2) z(a_i)/2 - a_i W_ii

    dL/dP = V (W o S) V^T + c I,    c = sum_i S_ii s_i + s_0 (tr G - tr S)

s_0 is that of a null eigenvalue: the decomposition of a Gram matrix does not have the null space of the covariance, and
tr G - tr S is the trace of the upstream gradient there. On the channel side it is zero.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.gradients.newton import Newton
from gcp.ops.numerics import add_identity_, scaled, trace
from gcp.roots.eigen import FunctionEigen, in_full, range_of
from gcp.roots.root import Saved


@dataclass(frozen=True)
class NewtonFunction(FunctionEigen):
    """The exact function forward, the gradient of k Newton-Schulz steps backward."""

    rule: Newton

    def matrix_gradient(self, G: Tensor, saved: Saved, unit: Tensor | None = None) -> Tensor:
        kept, V = saved
        core, _, c = self._scaled_core(kept, V.mT @ G @ V, unit, G, subtract=False)
        return add_identity_(V @ core @ V.mT, c)

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved, unit: Tensor | None = None) -> Tensor:
        eigenvalues, kept, U = saved
        samples = Xc.shape[2]
        V = range_of(Xc, eigenvalues, U)
        GV = G @ V
        core, w0, c = self._scaled_core(kept, V.mT @ GV, unit, G, subtract=True)
        assert w0 is not None
        inner = (GV * w0[:, None, :] + V @ core) * (2 / samples**0.5 * eigenvalues.sqrt())[:, None, :]
        return inner @ U.mT + (2 / samples) * c[:, None, None] * Xc

    def _scaled_core(
        self, kept: Tensor, S: Tensor, unit: Tensor | None, G: Tensor, subtract: bool
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Core, w0 and c of eigenvalues in units of unit^2, all times the unit (B, 1)."""
        full, channels, dtype = in_full(kept, unit), G.shape[1], S.dtype
        S = S.to(full.dtype)
        core, w0, c = self.core(full, S, subtract, channels)
        assert c is not None
        c = c + self.rule.null_slope(self.function, self.ridge, full, channels) * (trace(G).to(S.dtype) - trace(S))
        unit = torch.ones_like(full[:, :1]) if unit is None else unit.to(full.dtype)
        w0 = None if w0 is None else (w0 * unit).to(dtype)
        return scaled(core, unit[:, 0]).to(dtype), w0, (c * unit[:, 0]).to(dtype)
