r"""The polar factor of a matrix, by an eigendecomposition of the Gram matrix of its smaller side.

    A = U diag(s) V^T,      U V^T = (A A^T)^(-1/2) A = E diag(l^(-1/2)) E^T A,      A A^T = E diag(l) E^T

U V^T is the matrix nearest to A whose rows (columns where they are fewer) are orthonormal. Squaring costs half of the
digits: in float64 the error is about 1e-16 times the squared condition number of A, which is why a singular value
decomposition takes over at 1e5. The gradient of a layer is some 256 x 2048, of which only the 256 x 256 side is
decomposed here.
"""

import torch
from torch import Tensor

FLATTEST = 1e-10  # least eigenvalue over the largest; below it the singular value decomposition is taken


def polar_factor(A: Tensor) -> Tensor:
    """U V^T (m, n) of A (m, n), in the dtype of A; computed in float64.

    Where A has null singular values the factor is not unique: this is one of them, with orthonormal rows all the same,
    so that directions of which A says nothing are arbitrary. The factor of zero is zero.

    Raises:
        torch.linalg.LinAlgError: inf or NaN, on the CPU.
    """
    X = A.detach().double()
    largest = X.abs().amax() if X.numel() else X.new_zeros(())
    if largest == 0:
        return torch.zeros_like(A)
    X = X / largest  # squares neither overflow nor underflow
    tall = X.shape[0] > X.shape[1]
    X = X.mT if tall else X
    values, E = torch.linalg.eigh(X @ X.mT)
    if values[0] > FLATTEST * values[-1]:
        Q = ((E * values.rsqrt()) @ E.mT) @ X
    else:
        U, _, Vh = torch.linalg.svd(X, full_matrices=False)
        Q = U @ Vh
    return (Q.mT if tall else Q).to(A.dtype)
