r"""`newton`: exact root forward, the gradient of k Newton-Schulz steps backward.

tau = tr P, a_i = l_i / tau. The scalar iteration t = (3 - z y)/2, y <- y t, z <- t z from y = a, z = 1 has
divided differences without cancellation: start y[ij] = 1, z[ij] = 0 and differentiate each product,

    t[ij] = -(z_i y[ij] + z[ij] y_j)/2,   y[ij] <- y_i t[ij] + y[ij] t_j,   z[ij] <- z_i t[ij] + z[ij] t_j

Then W = y[ij] / sqrt tau (the diagonal is the derivative y'), w0(l) = z(l/tau) / sqrt tau, and the trace
term is c = tau^(-1/2) sum_i S_ii (y_i/2 - a_i y'_i). Ten steps differ from exact by 7-11 % in norm at
condition numbers 500-1000. Song, Sebe and Wang, ICCV 2021 (arXiv:2105.02498); the published form is the
matrix iteration itself, differentiated (Li, Xie, Wang and Gao, CVPR 2018).

The iteration has the inverse root as well: F = Z_k((P + e I)/tau) / sqrt tau, tau = tr(P + e I), gives
W = tau^(-3/2) z[ij] and c = -sum_i S_ii (tau^(-3/2) z_i/2 + a_i W_ii), where i runs over all d eigenvalues: null ones
have the ridge e and count in tau and c (`gcp.roots.newton`). No other function comes out of the iteration.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.gradients.base import RULES, Core, Differences, Published, Rule
from gcp.ops.newton_schulz import root_gradient
from gcp.ops.numerics import inverse_or_zero
from gcp.options import option


@RULES.register("newton", summary="gradient of k Newton-Schulz steps", paper="Song et al., ICCV 2021")
@dataclass(frozen=True)
class Newton(Rule):
    """Newton-Schulz backward for the exact root."""

    head = "svd_newton"
    kernel = "Newton"
    has_trace_term = True
    functions = ("sqrt", "inverse_sqrt")
    iterations: int = option(10, "Newton-Schulz steps k", minimum=1, maximum=100)

    @property
    def kernel_parameter(self) -> float:
        return float(self.iterations)

    @classmethod
    def of_kernel_parameter(cls, parameter: float) -> "Newton":
        return cls(round(parameter))

    def weight(self, kept: Tensor) -> Tensor:
        null = kept == 0
        a, scale = _normalise(kept, kept.sum(1, keepdim=True))
        y2, _ = _differences(a[:, :, None], a[:, None, :], self.iterations)
        return y2.mul_(scale[:, :, None]).masked_fill_(null[:, :, None] & null[:, None, :], 0)

    def null_weight(self, kept: Tensor) -> Tensor:
        a, scale = _normalise(kept, kept.sum(1, keepdim=True))
        return _iterate(a, self.iterations)[1] * scale

    def core(self, kept: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        W = self.weight(kept)
        a, scale = _normalise(kept, kept.sum(1, keepdim=True))
        y, _ = _iterate(a, self.iterations)
        # sqrt(tau) W_ii is the derivative y'_i
        slope = scale * y / 2 - kept * scale * scale * W.diagonal(dim1=1, dim2=2)
        c = (S.diagonal(dim1=1, dim2=2) * slope).sum(1)
        return W.mul_(S), c

    def function_core(
        self, function: Differences, ridge: float, kept: Tensor, S: Tensor, subtract: bool, channels: int
    ) -> Core:
        inverse = not function.increases
        scale = inverse_or_zero((kept.sum(1, keepdim=True) + channels * ridge).sqrt())
        kept = kept + ridge
        W = self._function_weight(inverse, kept[:, :, None], kept[:, None, :], scale[:, :, None])
        W = W.masked_fill((kept == 0)[:, :, None] & (kept == 0)[:, None, :], 0)
        slope = self.function_slope(inverse, kept, W.diagonal(dim1=1, dim2=2), scale)
        c = (S.diagonal(dim1=1, dim2=2) * slope).sum(1)
        if not subtract:
            return W * S, None, c
        w0 = self._function_weight(inverse, kept, kept.new_full((1, 1), ridge), scale)
        return W * S - S * w0[:, None, :], w0, c

    def null_slope(self, function: Differences, ridge: float, kept: Tensor, channels: int) -> Tensor:
        """s_0 (B,): d(trace term) / dS_ii of a null eigenvalue."""
        inverse = not function.increases
        scale = inverse_or_zero((kept.sum(1, keepdim=True) + channels * ridge).sqrt())
        null = torch.full_like(scale, ridge)
        return self.function_slope(inverse, null, self._function_weight(inverse, null, null, scale), scale)[:, 0]

    def function_slope(self, inverse: bool, values: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        """d(trace term) / dS_ii of the root or the inverse root, with the weight W_ii of each eigenvalue (B, n)."""
        y, z = _iterate(values * scale * scale, self.iterations)
        return (-z * scale**3 if inverse else y * scale) / 2 - values * scale * scale * weight

    def _function_weight(self, inverse: bool, left: Tensor, right: Tensor, scale: Tensor) -> Tensor:
        """The weight between eigenvalues of a matrix with trace scale^-2."""
        y2, z2 = _differences(left * scale * scale, right * scale * scale, self.iterations)
        return z2 * scale**3 if inverse else y2 * scale

    def published(self) -> "PublishedNewton":
        return PublishedNewton(self.iterations)


def _normalise(kept: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """a = l / tau (B, n), and tau^(-1/2) (B, 1), 0 for a zero matrix."""
    scale = inverse_or_zero(tau.sqrt())
    return kept * scale * scale, scale


def _iterate(a: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """y and z after k steps from y = a, z = 1."""
    y, z = a, torch.ones_like(a)
    for _ in range(iterations):
        t = (3 - z * y) / 2
        y, z = y * t, z * t
    return y, z


def _differences(left: Tensor, right: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """y[left, right] and z[left, right] after k steps; the arguments are broadcast."""
    yi, yj, zi, zj = left, right, torch.ones_like(left), torch.ones_like(right)
    y2 = left.new_ones(torch.broadcast_shapes(left.shape, right.shape))
    z2 = torch.zeros_like(y2)
    for _ in range(iterations):
        ti, tj = (3 - zi * yi) / 2, (3 - zj * yj) / 2
        t2 = -(zi * y2 + z2 * yj) / 2
        y2, z2 = yi * t2 + y2 * tj, zi * t2 + z2 * tj
        yi, zi, yj, zj = yi * ti, zi * ti, yj * tj, zj * tj
    return y2, z2


@dataclass(frozen=True)
class PublishedNewton(Published):
    """The matrix iteration itself."""

    iterations: int

    def gradient(self, P: Tensor, V: Tensor, clamped: Tensor, G: Tensor) -> Tensor:
        return root_gradient(P, G, self.iterations)
