"""The autograd of a matrix root: from a matrix, and from a feature map on either side.

A `Method` is root and gradient on either side, as plain functions of tensors. On the channel side it sees P (B, d, d),
on the sample side the centred samples Xc (B, d, M); `floor` (B,) is the total variance that counts as zero. What a
forward saves is all that its backward gets, and no backward decomposes again.

A method that is not `centred` takes the root of the second moment X X^T / M: nothing else changes, but that the Gram
matrix has no null vector and that no mean leaves rounding behind.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from gcp.kernels.triangle import pack, spread
from gcp.ops.covariance import (
    check_map,
    covariance_gradient,
    covariance_matrix,
    noise_floor,
    samples,
    unit_scale,
    working_samples,
)
from gcp.ops.numerics import compute_dtype, first_order, output_dtype, outside_autocast, sym

Saved = tuple[Tensor, ...]


@dataclass(frozen=True)
class Method:
    """A forward root with its backward.

    `centred`: of the covariance of features, not of their second moment. `rescales`: features whose squares leave the
    range of the dtype are brought to unit scale first; a method that is not homogeneous is then given the scale.
    """

    default_precision: ClassVar[str] = "float32"
    rescales: ClassVar[bool] = True
    centred: bool = field(default=True, kw_only=True, repr=False)

    @property
    def homogeneous(self) -> bool:
        """Whether the root of s^2 P is s times that of P."""
        return True

    def settle(self, dtype: torch.dtype, smaller: bool | None) -> "tuple[Method, torch.dtype]":
        """The method and the precision to compute with, asked for `dtype` on the smaller side of a feature map.

        `smaller` is False on the larger side, and None for a matrix without features.
        """
        return self, dtype

    def matrix_root(self, P: Tensor, floor: Tensor | None) -> tuple[Tensor, Saved]:
        """Q (B, d, d) and what the gradient needs."""
        raise NotImplementedError

    def matrix_gradient(self, G: Tensor, saved: Saved) -> Tensor:
        """dL/dP (B, d, d), symmetric, for a symmetric upstream gradient G (B, d, d)."""
        raise NotImplementedError

    def sample_root(self, Xc: Tensor, floor: Tensor) -> tuple[Tensor, Saved]:
        """Q (B, d, d) by way of the Gram matrix, and what the gradient needs besides Xc."""
        raise NotImplementedError

    def sample_gradient(self, G: Tensor, Xc: Tensor, saved: Saved) -> Tensor:
        """dL/dXc (B, d, M) for a symmetric upstream gradient G (B, d, d)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Root:
    """A method, a side and a precision: all checked, ready to be applied (`gcp.solvers.create_root` makes one)."""

    method: Method
    side: str
    precision: str | None

    @property
    def default_precision(self) -> str:
        """What is computed in where `precision` is None."""
        return self.method.default_precision

    def of_second_moment(self) -> "Root":
        """The same root without centring, of X X^T / M."""
        return replace(self, method=replace(self.method, centred=False))

    def plan(self, x: Tensor) -> tuple[bool, Method, torch.dtype]:
        """Whether the sample side is taken for a feature map (B, d, H, W), with which method and in which dtype."""
        d, M = x.shape[1], x.shape[2] * x.shape[3]
        # at d = M the covariance is singular, and the Gram matrix has a known null vector
        smaller_is_sample = d >= M
        on_samples = smaller_is_sample if self.side == "auto" else self.side == "sample"
        dtype = compute_dtype(x, self.precision, self.default_precision)
        return on_samples, *self.method.settle(dtype, smaller=on_samples == smaller_is_sample)

    def of_features(self, x: Tensor, packed: bool = False) -> Tensor:
        """(B, d, H, W) -> (B, d, d), or its upper triangle (B, d(d+1)/2) if `packed`."""
        if self.method.centred:
            samples(x)
        else:  # one position has a second moment
            check_map(x)
        on_samples, method, dtype = self.plan(x)
        with outside_autocast(x):
            return FeatureRoot.apply(x, dtype, method, on_samples, packed)

    def of_matrix(self, P: Tensor) -> Tensor:
        """(B, d, d) -> (B, d, d)."""
        method, dtype = self.method.settle(compute_dtype(P, self.precision, self.default_precision), smaller=None)
        with outside_autocast(P):
            return MatrixRoot.apply(P, dtype, method)


def own_scale(method: Method, scale: Tensor | None) -> tuple[Tensor, ...]:
    """What a method that is not homogeneous takes besides: the numbers (B, 1) that its features were divided by."""
    return () if scale is None or method.homogeneous else (scale[:, 0, 0],)


class MatrixRoot(torch.autograd.Function):
    """P (B, d, d) -> Q (B, d, d), computed in `dtype`."""

    @staticmethod
    def forward(ctx, P: Tensor, dtype: torch.dtype, method: Method) -> Tensor:
        Q, saved = method.matrix_root(sym(P.to(dtype)), None)
        ctx.method, ctx.dtype = method, dtype
        ctx.save_for_backward(P, *saved)
        return Q.to(output_dtype(P))

    @staticmethod
    def backward(ctx, G: Tensor) -> tuple[Tensor, None, None]:
        P, *saved = ctx.saved_tensors
        with torch.no_grad(), outside_autocast(P):
            gradient = sym(ctx.method.matrix_gradient(sym(G).to(ctx.dtype), tuple(saved))).to(P.dtype)
        return first_order(gradient, G, P), None, None


class FeatureRoot(torch.autograd.Function):
    """x (B, d, H, W) -> Q (B, d, d), computed in `dtype` by way of the covariance or of the Gram matrix.

    `packed`: its upper triangle (B, d(d+1)/2) instead, so that only half of Q is converted and passed on.
    Saves the features themselves, which the layer before keeps anyway, and not their centred copy.
    """

    @staticmethod
    def forward(ctx, x: Tensor, dtype: torch.dtype, method: Method, on_samples: bool, packed: bool) -> Tensor:
        scale = unit_scale(x, dtype) if method.rescales else None
        unit = x if scale is None else x / scale
        floor = noise_floor(unit, dtype) if method.centred else unit.new_zeros(len(unit), dtype=dtype)
        own = own_scale(method, scale)
        if on_samples:
            Q, saved = method.sample_root(working_samples(unit, dtype, method.centred), floor, *own)
        else:
            Q, saved = method.matrix_root(covariance_matrix(unit, dtype, method.centred), floor, *own)
        ctx.method, ctx.dtype, ctx.on_samples, ctx.packed = method, dtype, on_samples, packed
        ctx.save_for_backward(x, scale, *saved)
        Q = Q if scale is None or own else Q * scale[:, 0].to(dtype)
        return pack(Q, output_dtype(x)) if packed else Q.to(output_dtype(x))

    @staticmethod
    def backward(ctx, G: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, scale, *saved = ctx.saved_tensors
        with torch.no_grad(), outside_autocast(x):
            unit = x if scale is None else x / scale  # the gradient of a root does not depend on the scale
            own = own_scale(ctx.method, scale)
            S = spread(G, x.shape[1], ctx.dtype) if ctx.packed else sym(G).to(ctx.dtype)
            if ctx.on_samples:
                X = working_samples(unit, ctx.dtype, ctx.method.centred)
                gradient = ctx.method.sample_gradient(S, X, tuple(saved), *own).to(x.dtype).reshape(x.shape)
            else:
                core = ctx.method.matrix_gradient(S, tuple(saved), *own)
                gradient = covariance_gradient(core, unit, ctx.method.centred)
        return first_order(gradient, G, x), None, None, None, None
