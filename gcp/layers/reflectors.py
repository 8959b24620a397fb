r"""Reflectors to start from: Haar-distributed, of the identity, of a given matrix with orthonormal columns.

The reflector v = x - |x| e_1 takes x to |x| e_1. Taking the columns of A one after the other to the unit vectors gives
A = H_1 ... H_p E with E the first p columns of the identity: a QR decomposition with a positive diagonal (LAPACK's has
signs). Only the last of d = p columns has no choice left: the determinant decides between a zero row and e_d.

With independent normal x of lengths d, d-1, ... the product is Haar-distributed (Stewart, SIAM J. Numer. Anal. 1980).

Rows have length one, so that a gradient step of size r turns a reflector by r times the norm of its gradient. A zero
row stays zero in training, and so the determinant stays what it is at the start.
"""

import torch
from torch import Tensor

from gcp.errors import OptionError, ShapeError
from gcp.layers.householder import check_tensor, householder_apply, largest_entry

PANEL = 32  # columns that are reduced one by one before the rest is updated in one product
# relative to rounding: what a product of float16 or float32 matrices may lose, far below what a mistake looks like
SLACK = 100


def reflector(x: Tensor) -> Tensor:
    """v (..., d) of length one (or zero where x is |x| e_1 already) with H x = |x| e_1, without cancellation."""
    tail = x[..., 1:].square().sum(-1)
    length = (x[..., 0].square() + tail).sqrt()
    first = x[..., 0]
    first = torch.where(first > 0, -tail / (first + length), first - length)
    v = torch.cat((first[..., None], x[..., 1:]), -1)
    norm = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    return v / torch.where(norm > 0, norm, 1)


def haar(k: int, d: int, generator: torch.Generator | None = None) -> Tensor:
    """Reflectors (k, d) in float32: of a Haar-distributed matrix for k >= d, of its first k columns for k < d."""
    V = torch.zeros(k, d)
    for row in range(k):
        start = row if row < d else 0  # past the d-th any independent reflector keeps the distribution
        V[row, start:] = reflector(torch.randn(d - start, generator=generator, dtype=torch.float64))
    return V


def identity(k: int, d: int, generator: torch.Generator | None = None) -> Tensor:
    """Reflectors (k, d) in float32 whose product is the identity: equal pairs in random directions.

    Of an odd number the last is zero: it stays out of training.
    """
    V = torch.randn(k // 2, d, generator=generator, dtype=torch.float64)
    V = (V / torch.linalg.vector_norm(V, dim=1, keepdim=True)).repeat_interleave(2, 0)
    return torch.cat((V, V.new_zeros(k % 2, d))).float()


INITS = {"haar": haar, "identity": identity}


def initial(init: str, k: int, d: int) -> Tensor:
    """Reflectors (k, d) by the name of their distribution."""
    if init not in INITS:
        raise OptionError(f"init is {init!r}; allowed: {', '.join(INITS)}.")
    return INITS[init](k, d)


def reflectors_of(A: Tensor) -> Tensor:
    """Reflectors (p, d) in float64 of a matrix (d, p) with orthonormal columns, p <= d: A = H_1 ... H_p E.

    Raises:
        ShapeError: not such a matrix, to 100 times the rounding of its dtype.
    """
    if A.ndim != 2 or A.shape[0] < A.shape[1] or not A.is_floating_point():
        raise ShapeError(f"a matrix (d, p) with p <= d is needed, got {A.dtype} of shape {tuple(A.shape)}.")
    d, p = A.shape
    slack = SLACK * torch.finfo(A.dtype).eps * d**0.5
    R = A.detach().to(torch.float64, copy=True)
    error = float((R.mT @ R - torch.eye(p, dtype=R.dtype, device=R.device)).abs().amax()) if p else 0.0
    if not error <= slack:
        raise ShapeError(
            f"the columns of the matrix are not orthonormal: A^T A differs from the identity by {error:.1e}, allowed "
            f"for {A.dtype} is {slack:.0e}. Its nearest orthonormal matrix is gcp.layers.nearest_orthonormal(A)."
        )
    V = R.new_zeros(p, d)
    for start in range(0, p, PANEL):
        stop = min(start + PANEL, p)
        for j in range(start, stop):
            V[j, j:] = v = reflector(R[j:, j])
            R[j:, j:stop] -= torch.outer(2 * v, v @ R[j:, j:stop])
        R[:, stop:] = householder_apply(V[start:stop], R[:, stop:], transpose=True)
    return V


def nearest_orthonormal(A: Tensor) -> Tensor:
    """The polar factor U V^T of A (m, n): orthonormal columns, or rows for m < n; nearest in the Frobenius norm.

    Raises:
        ShapeError: no real matrix, or a batch with inf or NaN in it.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> layers.nearest_orthonormal(torch.diag(torch.tensor([2.0, 3.0])))
        tensor([[1., 0.],
                [0., 1.]])
    """
    check_tensor("A", A)
    if A.ndim < 2 or not bool(A.isfinite().all()):
        raise ShapeError(f"a matrix (m, n) of finite numbers is needed, got shape {tuple(A.shape)}, or inf or NaN.")
    U, _, Vh = torch.linalg.svd(A.detach().double(), full_matrices=False)
    return (U @ Vh).to(A.dtype)


def determinant_sign(V: Tensor) -> Tensor:
    """Determinant (shape ()) of the product of the reflectors (k, d): -1 for each row that is not zero."""
    odd = (largest_entry(V) > 0).sum() % 2
    return (1 - 2 * odd).to(V.dtype)
