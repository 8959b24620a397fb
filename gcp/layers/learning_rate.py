r"""The learning rate eta of a step W - eta L that keeps the rows of W near to orthonormal.

`paper` is the published optimal learning rate ("Improving Covariance Conditioning of the SVD Meta-layer by
Orthogonality", ECCV 2022, section 4.3), with w = vec(W) and l = vec(L),

    eta = (w.w)(l.w) / ((w.w)(l.l) + 2 (l.w)^2)      where 0 < eta < lr, lr otherwise

It is one Newton step on |w - eta l|^4: of W W^T it sees the trace alone. `exact` minimises the distance itself,

    f(eta) = |(W - eta L)(W - eta L)^T - I|^2
    f'(eta) = 4 <C,C> eta^3 + 6 <B,C> eta^2 + (2 <B,B> + 4 <A,C>) eta + 2 <A,B>
    A = W W^T - I,      B = -(W L^T + L W^T),      C = L L^T

over 0 <= eta <= lr: the best of the real roots in between, 0 and lr. As eta = 0 is among them, f never increases; where
every step of this direction would increase it, eta is 0 and the layer stands still. W with more rows than columns
cannot have orthonormal rows; there the same eta minimises |W^T W - I| for its columns.
"""

import numpy as np
import torch
from torch import Tensor


def paper_rate(W: Tensor, L: Tensor, lr: float) -> float:
    """eta of the published formula for W and L of one shape, in [0, lr]; computed in float64."""
    w, g = W.detach().double().flatten(), L.detach().double().flatten()
    ww, wg, gg = float(w @ w), float(w @ g), float(g @ g)
    below = ww * gg + 2 * wg**2
    eta = ww * wg / below if below > 0 else 0.0
    return eta if 0 < eta < lr else lr


def exact_rate(W: Tensor, L: Tensor, lr: float) -> float:
    """eta in [0, lr] at which W - eta L has the most orthonormal rows (columns of a tall W); computed in float64."""
    W, L = (_wide(matrix) * scale for matrix, scale in ((W, 1.0), (L, lr)))  # eta is a share of lr from here on
    A, B, C = W @ W.mT - torch.eye(len(W), dtype=W.dtype, device=W.device), W @ L.mT, L @ L.mT
    B = -(B + B.mT)
    AB, BB, AC, BC, CC = torch.stack([(X * Y).sum() for X, Y in ((A, B), (B, B), (A, C), (B, C), (C, C))]).tolist()
    change = np.polynomial.Polynomial([0.0, 2 * AB, BB + 2 * AC, 2 * BC, CC])  # f(eta) - f(0)
    if not np.isfinite(change.coef).all():
        return 0.0
    roots = change.trim().deriv().roots()
    shares = [0.0, 1.0, *(float(root.real) for root in roots if root.imag == 0 and 0 < root.real < 1)]
    return lr * min(shares, key=change)


def unorthogonality(W: Tensor) -> float:
    """|W W^T - I| in the Frobenius norm (|W^T W - I| for a tall W) in float64."""
    W = _wide(W)
    return float(torch.linalg.matrix_norm(W @ W.mT - torch.eye(len(W), dtype=W.dtype, device=W.device)))


def _wide(W: Tensor) -> Tensor:
    """The matrix (out, in * height * width) of a weight, transposed where it is tall, in float64."""
    matrix = W.detach().double().flatten(1)
    return matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
