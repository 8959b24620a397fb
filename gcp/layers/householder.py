r"""Products of Householder reflections with a matrix, differentiable, in few sequential steps.

    A = H_1 H_2 ... H_k X,      H_i = I - 2 v_i v_i^T / |v_i|^2

A is as orthogonal as the arithmetic allows, whatever the vectors: gradient descent on them cannot leave the
orthogonal group (Mhammedi et al., ICML 2017; in blocks Mathiasen et al., "What if neural networks had SVDs?", NeurIPS
2020). The vectors are not normalised. A reflection does not depend on the length of its vector, and neither does
anything here: each is divided by its largest entry, a constant to autograd, so that no square over- or underflows.

`gcp.layers.blocks` has the formulas.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from gcp.errors import NonFiniteError, OptionError, ShapeError
from gcp.layers.blocks import Product, RebuiltProduct, product
from gcp.ops.precision import outside_autocast

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
    """
    lead = _check(V, X, block)
    dtype = torch.promote_types(V.dtype, X.dtype)
    with outside_autocast(X):
        V, X = (tensor.to(torch.promote_types(dtype, torch.float32)) for tensor in (V, X))
        if V.ndim == 2:  # all matrices share the reflectors: they are columns of one
            columns = X.movedim(-2, 0).flatten(1) if lead else X
            out = _multiply(V[None], columns[None], block, transpose, rebuild)[0]
            return (out.unflatten(1, (*lead, X.shape[-1])).movedim(0, -2) if lead else out).to(dtype)
        V, X = (tensor.expand(*lead, *tensor.shape[-2:]).reshape(-1, *tensor.shape[-2:]) for tensor in (V, X))
        return _multiply(V, X, block, transpose, rebuild).reshape(*lead, *X.shape[-2:]).to(dtype)


def _check(V: Tensor, X: Tensor, block: int | None) -> torch.Size:
    """The leading dimensions of the result."""
    if not (V.is_floating_point() and X.is_floating_point()):
        raise ShapeError(f"real floating-point values are needed, got V {V.dtype} and X {X.dtype}.")
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


def check_block(block: int) -> None:
    """Raise OptionError unless `block` is a whole number of at least 1."""
    if not isinstance(block, int) or isinstance(block, bool) or block < 1:
        raise OptionError(f"block is {block!r}; allowed: a whole number >= 1, or None to choose by the sizes.")


def default_block(columns: int, device: torch.device) -> int:
    """Reflectors in a block, wider for more columns: products with wide blocks run faster, and cost more by themselves.

    On the CPU as measured by `python scripts/benchmark_layers.py --blocks 32 64 128 256`. A GPU, where each
    sequential step costs a launch, takes 128 whatever the columns; that choice is not measured.
    """
    if device.type != "cpu":
        return 128
    return 64 if columns < 256 else 128 if columns < 1024 else 256


def _multiply(V: Tensor, X: Tensor, block: int | None, transpose: bool, rebuild: bool) -> Tensor:
    """V (B, k, d), X (B, d, m) of one dtype, of at least float32."""
    block = block or default_block(X.shape[2], X.device)
    Y = into_blocks(_scaled(V), block)
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


def _scaled(V: Tensor) -> Tensor:
    """Each reflector over its largest entry; in eager mode on the CPU only where a length is extreme."""
    eager = V.device.type == "cpu" and not torch.compiler.is_compiling()
    if eager:
        lengths = torch.linalg.vector_norm(V.detach(), dim=-1)
        usual = (lengths > SHORT) & (lengths < LONG)
        if bool(usual.all()) or not bool(V.detach()[~usual].any()):  # the others are zero
            return V
    largest = largest_entry(V)[..., None]
    if eager and not bool(largest.isfinite().all()):
        *batch, row = (~largest[..., 0].isfinite()).nonzero()[0].tolist()
        of = f" of product {batch[0]}" if len(V) > 1 else ""
        raise NonFiniteError(f"reflector {row}{of} holds inf or NaN: the step before diverged.")
    return V / torch.where(largest > 0, largest, 1)


def largest_entry(V: Tensor) -> Tensor:
    """Greatest absolute value of each row, without a graph; vector_norm(ord=inf) takes ten times as long on a CPU."""
    V = V.detach()
    return torch.maximum(V.amax(-1), -V.amin(-1))
