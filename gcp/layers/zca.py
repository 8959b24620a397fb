r"""Whitening of a batch of feature maps by ZCA: the products with the features, forward and backward.

The samples of C channels are the N = B H W positions of all maps; the channels form groups of c, and each group is
whitened by itself. With Xc the samples minus their mean mu, S the inverse root of the covariance and weight and bias
of each channel,

    P = Xc Xc^T / N,     S = (P + eps I)^(-1/2),     A = diag(weight) S,     out = A Xc + bias

For an upstream gradient G of `out`, M = G Xc^T and D = dL/dP of dL/dS = diag(weight) M,

    d bias = G 1,     d weight = rowsum(M o S),     dL/dX = A^T (G - mean G) + (2/N) D Xc

That is five products of 2 N C c operations. They run in the precision of the features; mean, covariance and M are
added up in float64, and the inverse root is taken in float64: its matrices are small. Only the covariance centres the
samples (squares would cancel), a slice of the batch at a time, so that the centred copy never leaves the cache.

Over several processes the sums 1, X 1, Xc Xc^T, G 1 and M run over all of them, and the gradient is that of one process
with the whole batch.

Huang, Yang, Lang and Deng, Decorrelated batch normalization, CVPR 2018 (arXiv:1804.08450).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gcp import kernels
from gcp.errors import NonFiniteError
from gcp.gradients import Rule
from gcp.ops.numerics import add_identity_, first_order, inverse_or_zero, on_gpu, outside_autocast, scaled, sym
from gcp.roots.iterations import Iteration

SLICE = 2**20  # bytes of features: they stay in the cache of one core
Saved = tuple[Tensor, ...]


class InverseRoot:
    """(P + eps I)^(-1/2) of matrices (g, c, c) in float64, and its gradient."""

    def forward(self, P: Tensor, eps: float) -> tuple[Tensor, Saved]:
        """S (g, c, c), and what the gradient needs."""
        raise NotImplementedError

    def gradient(self, G: Tensor, saved: Saved) -> Tensor:
        """dL/dP (g, c, c) of a symmetric upstream gradient G."""
        raise NotImplementedError


@dataclass(frozen=True)
class EigenInverseRoot(InverseRoot):
    """By an eigendecomposition, with any rule: S = Q^(-1), so its gradient is that of the root Q for -S G S."""

    rule: Rule

    def forward(self, P: Tensor, eps: float) -> tuple[Tensor, Saved]:
        eigenvalues, V = kernels.eigh(P)
        kept = self.rule.spectrum(eigenvalues.clamp(min=0) + eps, P.shape[1])
        inverse = inverse_or_zero(kept.sqrt())
        return (V * inverse[:, None, :]) @ V.mT, (kept, inverse, V)

    def gradient(self, G: Tensor, saved: Saved) -> Tensor:
        kept, inverse, V = saved
        upstream = (V.mT @ G @ V) * -(inverse[:, :, None] * inverse[:, None, :])
        spectral_core = partial(kernels.spectral_core, self.rule) if on_gpu(upstream) else self.rule.spectral_core
        core, _, c = spectral_core(kept, upstream)
        gradient = V @ core @ V.mT
        return gradient if c is None else add_identity_(gradient, c)


@dataclass(frozen=True)
class IteratedInverseRoot(InverseRoot):
    r"""By an iteration psi on A = (P + eps I) / nu, S = psi(A) / sqrt nu, with the gradient of the iteration.

    With D = Dpsi[A](G):  dL/dP = nu^(-3/2) (D - (<G, psi>/2 + <D, A>) dnu).
    """

    iteration: Iteration

    def forward(self, P: Tensor, eps: float) -> tuple[Tensor, Saved]:
        P = add_identity_(P.clone(), eps)
        nu = self.iteration.norm(P)
        A = scaled(P, 1 / nu)
        return scaled(sym(self.iteration.psi(A)), nu.rsqrt()), (A, nu)

    def gradient(self, G: Tensor, saved: Saved) -> Tensor:
        A, nu = saved
        psi, D = self.iteration.psi_tangent(A, G)
        delta = (G * psi).sum((1, 2)) / 2 + (D * A).sum((1, 2))
        return scaled(D - scaled(self.iteration.norm_gradient(A).expand_as(A), delta), nu**-1.5)


class Whiten(torch.autograd.Function):
    """x (B, C, H, W) -> out of the same shape, mu (C,), P (g, c, c) and N (); the last three have no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        groups: int,
        eps: float,
        root: InverseRoot,
        dtype: torch.dtype,
        process_group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        X = x.to(dtype).contiguous()
        count, mean = _mean(X, process_group)
        P = _total(_covariance_sum(X, mean, groups), process_group) / count.clamp(min=1)
        require_finite(P)
        S, saved = root.forward(P, eps)
        A = by_row(S, weight)
        shift = shift_of(A, mean, bias)
        out = torch.empty_like(X)
        _multiply(A.to(dtype), X, shift.to(dtype), out)
        ctx.save_for_backward(x, weight, mean, count, S, *saved)
        ctx.root, ctx.dtype, ctx.process_group, ctx.has_bias = root, dtype, process_group, bias is not None
        ctx.mark_non_differentiable(mean, P, count)
        return _like(out, x), mean, P, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, count, S, *saved = ctx.saved_tensors
        with torch.no_grad(), outside_autocast(x):
            X, G = (tensor.to(ctx.dtype).contiguous() for tensor in (x, gradients[0]))
            sums = channel_sums(G)
            M = _cross_sum(G, X, len(S)) - _grouped(sums, S)[:, :, None] * _grouped(mean, S)[:, None, :]
            d_weight = None if weight is None else (M * S).sum(2).flatten().to(weight.dtype)
            d_bias = sums.to(gradients[0].dtype if weight is None else weight.dtype) if ctx.has_bias else None
            d_x = None
            if ctx.needs_input_grad[0]:
                M = _total(M, ctx.process_group)
                mean_G = _grouped(_total(sums, ctx.process_group) / count.clamp(min=1), S)
                D = sym(ctx.root.gradient(sym(by_row(M, weight)), tuple(saved))) * (2 / count.clamp(min=1))
                A = by_row(S, weight).mT
                shift = -(A @ mean_G[:, :, None] + D @ _grouped(mean, S)[:, :, None]).flatten()
                out = torch.empty_like(X)
                _multiply(A.to(ctx.dtype), G, shift.to(ctx.dtype), out, D.to(ctx.dtype), X)
                d_x = _like(out, x)
        found = (d_x, d_weight, d_bias)
        guarded = [None if d is None else first_order(d, gradients[0], x) for d in found]
        return *guarded, None, None, None, None, None


def by_row(S: Tensor, weight: Tensor | None) -> Tensor:
    """diag(weight) S, (g, c, c) in the dtype of S."""
    return S if weight is None else S * _grouped(weight.to(S.dtype), S)[:, :, None]


def shift_of(A: Tensor, mean: Tensor, bias: Tensor | None) -> Tensor:
    """bias - A mean, (C,) in the dtype of A: what is added after the product of A with samples as they are."""
    shift = -(A @ _grouped(mean.to(A.dtype), A)[:, :, None]).flatten()
    return shift if bias is None else shift + bias


def require_finite(P: Tensor) -> None:
    """Raise NonFiniteError where the covariance is not finite, in eager mode on the CPU: inf or NaN in any sample."""
    if not torch.compiler.is_compiling() and P.device.type == "cpu" and not bool(P.isfinite().all()):
        raise NonFiniteError("the features that a Whitening2d is to whiten hold inf or NaN, or overflow when squared")


def _grouped(values: Tensor, S: Tensor) -> Tensor:
    """(C,) -> (g, c)."""
    return values.view(S.shape[0], S.shape[1])


def _like(out: Tensor, x: Tensor) -> Tensor:
    """`out` in the dtype and the memory format of x."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return out.to(x.dtype, memory_format=torch.channels_last if last else torch.contiguous_format)


def _total(x: Tensor, process_group: dist.ProcessGroup | None) -> Tensor:
    """The sum over the processes; x itself is left as it is."""
    if process_group is None:
        return x
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=process_group)
    return total


def channel_sums(X: Tensor) -> Tensor:
    """The sum of each channel (C,) in float64; of a single map in its own precision, for a copy of X costs more."""
    return X.sum((2, 3)).sum(0, dtype=torch.float64)


def _mean(X: Tensor, process_group: dist.ProcessGroup | None) -> tuple[Tensor, Tensor]:
    """N () and mu (C,) in float64; where there is no sample at all mu is 0."""
    samples = X.new_full((1,), X.numel() // X.shape[1], dtype=torch.float64)
    total = _total(torch.cat([samples, channel_sums(X)]), process_group)
    return total[0], total[1:] / total[0].clamp(min=1)


def _parts(X: Tensor) -> list[slice]:
    """Slices of the batch of about SLICE bytes, on the CPU in eager mode; else the whole."""
    if X.device.type != "cpu" or torch.compiler.is_compiling():
        return [slice(None)]
    step = max(1, SLICE // (X[0].numel() * X.element_size())) if len(X) else 1
    return [slice(start, start + step) for start in range(0, len(X), step)]


def _covariance_sum(X: Tensor, mean: Tensor, groups: int) -> Tensor:
    """Xc Xc^T (g, c, c) in float64."""
    size = X.shape[1] // groups
    centre = mean.to(X.dtype).view(groups, size, 1, 1)
    total = X.new_zeros(groups, size, size, dtype=torch.float64)
    parts = _parts(X)
    whole = parts == [slice(None)]
    buffer = X.new_empty(X[parts[0]].numel() if parts and not whole else 0)  # fresh memory costs as much again
    for part in parts:
        # one long product for each group: (g, c, b, H W) in the place of (b, g, c, H W)
        maps = X[part].view(-1, groups, size, X[0, 0].numel()).permute(1, 2, 0, 3)
        centred = maps - centre if whole else torch.sub(maps, centre, out=buffer[: maps.numel()].view(maps.shape))
        Xc = centred.flatten(2)
        total += Xc @ Xc.mT
    return total


def _cross_sum(G: Tensor, X: Tensor, groups: int) -> Tensor:
    """G X^T (g, c, c) in float64."""
    size = X.shape[1] // groups
    total = X.new_zeros(groups, size, size, dtype=torch.float64)
    for part in _parts(X):
        g, x = (tensor[part].view(-1, size, X[0, 0].numel()) for tensor in (G, X))
        total += torch.bmm(g, x.mT).view(-1, groups, size, size).sum(0)
    return total


def _multiply(
    A: Tensor, X: Tensor, shift: Tensor, out: Tensor, B: Tensor | None = None, Y: Tensor | None = None
) -> None:
    """out = A X + shift (+ B Y) for maps X, Y, out (B, C, H, W), matrices A, B (g, c, c) and shift (C,)."""
    groups, size = A.shape[:2]
    parts = _parts(X)
    images = len(X[parts[0]]) if parts else 0
    shift, A = shift.view(groups, size, 1).repeat(images, 1, 1), A.repeat(images, 1, 1)
    B = None if B is None else B.repeat(images, 1, 1)
    for part in parts:
        target = out[part].view(-1, size, X[0, 0].numel())
        n = len(target)
        torch.baddbmm(shift[:n], A[:n], X[part].view_as(target), out=target)
        if B is not None and Y is not None:
            target.baddbmm_(B[:n], Y[part].view_as(target))
