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

Products of Householder reflections with a matrix, differentiable, in few sequential steps.

    A = H_1 H_2 ... H_k X,      H_i = I - 2 v_i v_i^T / |v_i|^2

A is as orthogonal as the arithmetic allows, whatever the vectors: gradient descent on them cannot leave the
orthogonal group (Mhammedi et al., ICML 2017; in blocks Mathiasen et al., "What if neural networks had SVDs?", NeurIPS
2020). The vectors are not normalised. A reflection does not depend on the length of its vector, and neither does
anything here: each is divided by its largest entry, a constant to autograd, so that no square over- or underflows.

`gcp.layers.householder` has the formulas.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from gcp.errors import NonFiniteError, OptionError, ShapeError
from gcp.ops.numerics import outside_autocast

REFUSAL = "a double backward needs the activations that rebuild=True does not keep: use rebuild=False"


def inverse_factor(Y: Tensor) -> Tensor:
    """T (n, B, b, b); a zero reflector is the identity, with 1 on its diagonal of S."""
    return invert_factors(Y @ Y.mT)


def invert_factors(products: Tensor) -> Tensor:
    """T (..., b, b) of Y Y^T."""
    S = products.triu()
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


def sweep(Y: Tensor, T: Tensor, X: Tensor, transpose: bool, last: bool = True) -> tuple[Tensor | None, Tensor, Tensor]:
    """The product, with the input (n, B, d, m) and the coefficients Z (n, B, b, m) of each block; no autograd.

    `last`: whether the product itself is wanted. A single product of long reflectors keeps X transposed in memory, its
    long rows as those of Y: a step takes a fifth less time so, and has not the overhead of a batched one.
    """
    alone = len(X) == 1 and X.shape[1] >= LONG_ROWS
    inputs = X.new_empty(len(Y), *X.mT.shape).mT if alone else X.new_empty(len(Y), *X.shape)
    coefficients = X.new_empty(*Y.shape[:3], X.shape[2])
    out = torch.empty_like(inputs[0])
    steps = [in_turn(part, transpose) for part in (Y, T.mT if transpose else T, coefficients, inputs)]
    steps.append([*steps[3][1:], out])
    steps[3][0].copy_(X)
    multiply, add = (torch.mm, torch.addmm) if alone else (torch.bmm, torch.baddbmm)
    if alone:
        steps = [[part[0] for part in parts] for parts in steps]
    for number, (y, t, z, x, target) in enumerate(zip(*steps, strict=True), 1):
        multiply(t, multiply(y, x), out=z)
        if last or number < len(Y):
            add(x, y.mT, z, alpha=-1, out=target)
    return out if last else None, inputs, coefficients


def through_factor(Y: Tensor, Z: Tensor, U: Tensor, transpose: bool) -> Tensor:
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
        assert out is not None
        ctx.save_for_backward(Y, X, T, inputs, Z)
        ctx.transpose = transpose
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor | None, ...]:
        Y, X, T, inputs, Z = ctx.saved_tensors
        with outside_autocast(G):
            if torch.is_grad_enabled():  # the gradient will be differentiated: take that of `product`
                return *_differentiable_gradients(Y, X, G, ctx.transpose, ctx.needs_input_grad[:2]), None
            dX, gradients, U = sweep(Y, T, G, not ctx.transpose, ctx.needs_input_grad[1])
            dY = through_factor(Y, Z, U, ctx.transpose)
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
            return through_factor(Y, Z, U, ctx.transpose) - outer, G, None


LONG_ROWS = 512  # entries of a reflector from which the arithmetic outweighs the overhead of the operations
SHORT, LONG = 1e-12, 1e12  # lengths whose squares, and their quotients, are far from the ends of float32


def householder_apply(
    V: Tensor, X: Tensor, block: int | None = None, transpose: bool = False, rebuild: bool = False
) -> Tensor:
    """H_1 ... H_k X, or with `transpose` its transpose (and inverse) H_k ... H_1 X.

    Args:
        V: reflectors as rows, (..., k, d) with any k >= 0, of any length. A zero row is the identity and has a zero
            gradient; the gradient of any other row is orthogonal to it.
        X: (..., d, m), any m >= 0. Leading dimensions broadcast with those of V.
        block: reflectors in a block, None chooses by sizes and device. Changes the time and the rounding only.
        transpose: apply the transpose.
        rebuild: keep two matrices like X for the backward in place of one for each block; a backward with
            `create_graph=True` raises RuntimeError.

    Returns:
        (..., d, m) in the common dtype of V and X. bfloat16 and float16 are computed in float32, also in autocast.

    Raises:
        ShapeError: shapes that do not fit, d = 0, or values that are not floating point.
        OptionError: a block below 1.
        NonFiniteError: a reflector with inf or NaN, in eager mode on the CPU; elsewhere the result is NaN.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> Q = layers.householder_apply(torch.randn(3, 5), torch.eye(5))  # three reflectors of R^5
        >>> torch.allclose(Q @ Q.T, torch.eye(5), atol=1e-5)
        True
    """
    lead = _check(V, X, block)
    dtype = torch.promote_types(V.dtype, X.dtype)
    with outside_autocast(X):
        V, X = (tensor.to(torch.promote_types(dtype, torch.float32)) for tensor in (V, X))
        if V.ndim == 2:  # all matrices share the reflectors: they are columns of one
            columns = X.movedim(-2, 0).flatten(1) if lead else X
            out = _multiply(V[None], columns[None], block, transpose, rebuild).squeeze(0)  # not [0]: a slow backward
            return (out.unflatten(1, (*lead, X.shape[-1])).movedim(0, -2) if lead else out).to(dtype)
        V, X = (_stacked(tensor, lead) for tensor in (V, X))
        return _multiply(V, X, block, transpose, rebuild).reshape(*lead, *X.shape[-2:]).to(dtype)


def _stacked(matrices: Tensor, lead: torch.Size) -> Tensor:
    """(B, ., .) of matrices (..., ., .), repeated where `lead` asks for it."""
    if matrices.ndim == 3 and matrices.shape[:1] == lead:
        return matrices
    return matrices.expand(*lead, *matrices.shape[-2:]).reshape(-1, *matrices.shape[-2:])


def _check(V: Tensor, X: Tensor, block: int | None) -> torch.Size:
    """The leading dimensions of the result."""
    check_tensor("V", V)
    check_tensor("X", X)
    shapes = f"V {tuple(V.shape)} and X {tuple(X.shape)}"
    if V.ndim < 2 or X.ndim < 2 or V.shape[-1] != X.shape[-2] or V.shape[-1] == 0:
        raise ShapeError(f"reflectors V (..., k, d) and columns X (..., d, m) of one d >= 1 are needed, got {shapes}.")
    if block is not None:
        check_block(block)
    if V.ndim == 2:
        return X.shape[:-2]
    try:
        return torch.broadcast_shapes(V.shape[:-2], X.shape[:-2])
    except RuntimeError:
        raise ShapeError(f"the leading dimensions of {shapes} do not broadcast.") from None


def check_tensor(name: str, value: object) -> None:
    """Raise ShapeError unless `value` is a tensor of real floating-point numbers."""
    if not isinstance(value, Tensor):
        raise ShapeError(f"{name} is of type {type(value).__name__}; allowed: a tensor of real floating-point numbers.")
    if not value.is_floating_point():
        raise ShapeError(f"{name} is {value.dtype}; allowed: real floating-point numbers.")


def check_block(block: int) -> None:
    """Raise OptionError unless `block` is a whole number of at least 1."""
    if not isinstance(block, int) or isinstance(block, bool) or block < 1:
        raise OptionError(f"block is {block!r}; allowed: a whole number >= 1, or None to choose by the sizes.")


def default_block(columns: int, device: torch.device, d: int = 0) -> int:
    """Reflectors of d entries in a block, wider for more columns: products with wide blocks run faster, and cost more
    by themselves.

    On the CPU as measured by `python scripts/benchmark_layers.py --blocks 32 64 128 256`. A GPU, where each
    sequential step costs a launch, takes 128 whatever the columns; that choice is not measured.
    """
    if device.type != "cpu":
        return 128
    if columns <= 32 and d >= LONG_ROWS:
        return 32
    return 64 if columns < 256 else 128 if columns < 1024 else 256


def _multiply(V: Tensor, X: Tensor, block: int | None, transpose: bool, rebuild: bool) -> Tensor:
    """V (B, k, d), X (B, d, m) of one dtype, of at least float32."""
    block = block or default_block(X.shape[2], X.device, X.shape[1])
    Y = into_blocks(scaled(V), block)
    if torch.compiler.is_compiling() or not (Y.requires_grad and torch.is_grad_enabled()):
        return product(Y, X, transpose)
    return (RebuiltProduct if rebuild else Product).apply(Y, X, transpose)


def into_blocks(V: Tensor, block: int) -> Tensor:
    """(B, k, d) -> (n, B, b, d), filled with zero rows; b is at most k, and there is at least one block."""
    count, rows, width = V.shape
    b = min(block, max(rows, 1))
    n = max(-(-rows // b), 1)
    V = pad(V, (0, 0, 0, n * b - rows)) if n * b > rows else V
    return V.reshape(count, n, b, width).transpose(0, 1)


def scaled(V: Tensor) -> Tensor:
    """Each reflector over its largest entry; in eager mode on the CPU only where a length is extreme."""
    eager = V.device.type == "cpu" and not torch.compiler.is_compiling()
    if eager:
        lengths = torch.linalg.vector_norm(V.detach(), dim=-1)
        shortest, longest = torch.aminmax(lengths) if lengths.numel() else (1.0, 1.0)
        if bool(shortest > SHORT) and bool(longest < LONG):
            return V
        usual = (lengths > SHORT) & (lengths < LONG)
        if not bool(V.detach()[~usual].any()):  # the others are zero
            return V
    largest = largest_entry(V)[..., None]
    if eager and not bool(largest.isfinite().all()):
        *batch, row = (~largest[..., 0].isfinite()).nonzero()[0].tolist()
        of = f" of product {batch[0]}" if batch and len(V) > 1 else ""
        raise NonFiniteError(f"reflector {row}{of} holds inf or NaN: the step before diverged.")
    return V / torch.where(largest > 0, largest, 1)


def largest_entry(V: Tensor) -> Tensor:
    """Greatest absolute value of each row, without a graph; vector_norm(ord=inf) takes ten times as long on a CPU."""
    V = V.detach()
    return torch.maximum(V.amax(-1), -V.amin(-1))
