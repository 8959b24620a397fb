"""The autograd of a method on either side."""

import torch
from torch import Tensor

from gcp.ops.covariance import centre, noise_floor
from gcp.ops.first_order import first_order
from gcp.ops.precision import output_dtype, outside_autocast
from gcp.ops.spectrum import sym
from gcp.sqrtm.method import Method


class MatrixRoot(torch.autograd.Function):
    """P (B, d, d), floor (B,) or None -> Q (B, d, d), all in the working precision."""

    @staticmethod
    def forward(ctx, P: Tensor, floor: Tensor | None, method: Method) -> Tensor:
        Q, saved = method.matrix_root(P, floor)
        ctx.method = method
        ctx.save_for_backward(*saved)
        return Q

    @staticmethod
    def backward(ctx, G: Tensor) -> tuple[Tensor, None, None]:
        saved = ctx.saved_tensors
        with torch.no_grad(), outside_autocast(G):
            gradient = ctx.method.matrix_gradient(sym(G), saved)
        return first_order(gradient, G), None, None


class SampleRoot(torch.autograd.Function):
    """x (B, d, H, W) -> Q (B, d, d) by way of the Gram matrix, computed in `dtype`."""

    @staticmethod
    def forward(ctx, x: Tensor, dtype: torch.dtype, method: Method) -> Tensor:
        Q, saved = method.sample_root(centre(x, dtype), noise_floor(x, dtype))
        ctx.method, ctx.dtype = method, dtype
        ctx.save_for_backward(x, *saved)
        return Q.to(output_dtype(x))

    @staticmethod
    def backward(ctx, G: Tensor) -> tuple[Tensor, None, None]:
        x, *saved = ctx.saved_tensors
        with torch.no_grad(), outside_autocast(x):
            gradient = ctx.method.sample_gradient(sym(G).to(ctx.dtype), centre(x, ctx.dtype), tuple(saved))
            gradient = gradient.reshape(x.shape).to(x.dtype)
        return first_order(gradient, G, x), None, None
