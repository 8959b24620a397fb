"""The autograd of a method: from a matrix, and from a feature map on either side."""

import torch
from torch import Tensor

from gcp.kernels import pack, spread
from gcp.ops.covariance import centre, covariance_gradient, covariance_matrix, noise_floor
from gcp.ops.first_order import first_order
from gcp.ops.matrix import sym
from gcp.ops.precision import output_dtype, outside_autocast
from gcp.sqrtm.method import Method


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
        floor = noise_floor(x, dtype)
        if on_samples:
            Q, saved = method.sample_root(centre(x, dtype), floor)
        else:
            Q, saved = method.matrix_root(covariance_matrix(x, dtype), floor)
        ctx.method, ctx.dtype, ctx.on_samples, ctx.packed = method, dtype, on_samples, packed
        ctx.save_for_backward(x, *saved)
        return pack(Q, output_dtype(x)) if packed else Q.to(output_dtype(x))

    @staticmethod
    def backward(ctx, G: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, *saved = ctx.saved_tensors
        with torch.no_grad(), outside_autocast(x):
            S = spread(G, x.shape[1], ctx.dtype) if ctx.packed else sym(G).to(ctx.dtype)
            if ctx.on_samples:
                gradient = ctx.method.sample_gradient(S, centre(x, ctx.dtype), tuple(saved))
                gradient = gradient.to(x.dtype).reshape(x.shape)
            else:
                gradient = covariance_gradient(ctx.method.matrix_gradient(S, tuple(saved)), x)
        return first_order(gradient, G, x), None, None, None, None
