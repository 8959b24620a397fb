r"""Blocks of reflectors in UT form, and their product with a matrix: forward and backward.

A block Y (b x d) of reflectors is the matrix I - Y^T T Y with T^(-1) = S = triu(Y Y^T, 1) + diag(Y Y^T)/2: the compact
WY form (Schreiber and Van Loan, 1989) with the inverse of its factor (Joffrain et al., ACM TOMS 2006). With the input
X and the upstream gradient G of a block,

    Z = T Y X,        out   = X - Y^T Z
    U = T^T Y G,      dL/dX = G - Y^T U
    dL/dY = (M + M^T) Y - Z G^T - U X^T,      M = triu(U Z^T, 1) + diag(U Z^T)/2

Only X on its way through the blocks and G on its way back are sequential: three small products for each block. S, T
and dL/dY are batched over all blocks. The transposed product takes T^T for T and the blocks in the other order, so
the backward of one is the forward of the other. T is safe to form: |y_i| |T_ij| |y_j| <= 4 for any reflectors.

Tensors here are Y (n, B, b, d), n blocks of B products, and X, G (B, d, m), in one dtype.
"""

from typing import Any

import torch
from torch import Tensor

from gcp.ops.precision import outside_autocast

REFUSAL = "a double backward needs the activations that rebuild=True does not keep: use rebuild=False"


def inverse_factor(Y: Tensor) -> Tensor:
    """T (n, B, b, b); a zero reflector is the identity, with 1 on its diagonal of S."""
    S = (Y @ Y.mT).triu()
    diagonal = S.diagonal(dim1=-2, dim2=-1)
    diagonal.copy_(torch.where(diagonal > 0, diagonal / 2, 1))
    identity = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    return torch.linalg.solve_triangular(S, identity.expand_as(S), upper=True)


def in_turn(tensor: Tensor, transpose: bool) -> list[Tensor]:
    """The parts of the blocks in the order in which the blocks are applied."""
    parts = list(tensor.unbind())
    return parts if transpose else parts[::-1]


def product(Y: Tensor, X: Tensor, transpose: bool) -> Tensor:
    """(B, d, m): the product in operations that autograd differentiates any number of times."""
    T = inverse_factor(Y)
    for y, t in zip(in_turn(Y, transpose), in_turn(T.mT if transpose else T, transpose), strict=True):
        X = X - y.mT @ (t @ (y @ X))
    return X


def sweep(Y: Tensor, T: Tensor, X: Tensor, transpose: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The product, with the input (n, B, d, m) and the coefficients Z (n, B, b, m) of each block; no autograd."""
    inputs, coefficients = X.new_empty(len(Y), *X.shape), X.new_empty(*Y.shape[:3], X.shape[2])
    out = torch.empty_like(X, memory_format=torch.contiguous_format)
    steps = (in_turn(part, transpose) for part in (Y, T.mT if transpose else T, coefficients, inputs))
    targets = [*in_turn(inputs, transpose)[1:], out]
    in_turn(inputs, transpose)[0].copy_(X)
    for y, t, z, x, target in zip(*steps, targets, strict=True):
        torch.bmm(t, torch.bmm(y, x), out=z)
        torch.baddbmm(x, y.mT, z, alpha=-1, out=target)
    return out, inputs, coefficients


def _through_factor(Y: Tensor, Z: Tensor, U: Tensor, transpose: bool) -> Tensor:
    """(M + M^T) Y: what dL/dY receives through T."""
    M = (Z @ U.mT if transpose else U @ Z.mT).triu_()
    M.diagonal(dim1=-2, dim2=-1).mul_(0.5)
    return (M + M.mT) @ Y


def _subtract_outer(dY: Tensor, Z: Tensor, G: Tensor) -> None:
    """The gradient dY minus Z G^T of all blocks, in place."""
    dY.flatten(0, 1).baddbmm_(Z.flatten(0, 1), G.flatten(0, 1).mT, alpha=-1)


class Product(torch.autograd.Function):
    """`product` with the backward above. Keeps the input of every block, n times the size of X."""

    @staticmethod
    def forward(ctx: Any, Y: Tensor, X: Tensor, transpose: bool) -> Tensor:
        T = inverse_factor(Y)
        out, inputs, Z = sweep(Y, T, X, transpose)
        ctx.save_for_backward(Y, X, T, inputs, Z)
        ctx.transpose = transpose
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        Y, X, T, inputs, Z = ctx.saved_tensors
        with outside_autocast(G):
            if torch.is_grad_enabled():  # the gradient will be differentiated: take that of `product`
                return *_differentiable_gradients(Y, X, G, ctx.transpose, ctx.needs_input_grad[:2]), None
            dX, gradients, U = sweep(Y, T, G, not ctx.transpose)
            dY = _through_factor(Y, Z, U, ctx.transpose)
            _subtract_outer(dY, Z, gradients)
            _subtract_outer(dY, U, inputs)
            return dY, dX, None


def _differentiable_gradients(
    Y: Tensor, X: Tensor, G: Tensor, transpose: bool, needed: tuple[bool, ...]
) -> list[Tensor | None]:
    wanted = [tensor for tensor, need in zip((Y, X), needed, strict=True) if need]
    found = iter(torch.autograd.grad(product(Y, X, transpose), wanted, G, create_graph=True))
    return [next(found) if need else None for need in needed]


class RebuiltProduct(torch.autograd.Function):
    """`product` with a backward that rebuilds the input of each block from its output: X = out + Y^T Z.

    Keeps out and Z, the size of X each (for as many reflectors as rows), whatever the number of blocks.
    """

    @staticmethod
    def forward(ctx: Any, Y: Tensor, X: Tensor, transpose: bool) -> Tensor:
        T = inverse_factor(Y)
        coefficients, out = X.new_empty(*Y.shape[:3], X.shape[2]), X
        steps = (in_turn(part, transpose) for part in (Y, T.mT if transpose else T, coefficients))
        for y, t, z in zip(*steps, strict=True):
            torch.bmm(t, torch.bmm(y, out), out=z)
            out = torch.baddbmm(out, y.mT, z, alpha=-1)
        ctx.save_for_backward(Y, T, coefficients, out)
        ctx.transpose = transpose
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(REFUSAL)
        Y, T, Z, X = ctx.saved_tensors
        U, outer = torch.empty_like(Z), torch.empty_like(Y)
        with outside_autocast(G):
            order = not ctx.transpose
            steps = (in_turn(part, order) for part in (Y, T.mT if order else T, Z, U, outer))
            for y, t, z, u, dy in zip(*steps, strict=True):
                X = torch.baddbmm(X, y.mT, z)
                torch.bmm(t, torch.bmm(y, G), out=u)
                torch.bmm(z, G.mT, out=dy).baddbmm_(u, X.mT)
                G = torch.baddbmm(G, y.mT, u, alpha=-1)
            return _through_factor(Y, Z, U, ctx.transpose) - outer, G, None
