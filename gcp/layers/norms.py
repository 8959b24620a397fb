r"""The largest singular value: of a matrix, of a convolution, exactly and from above.

`largest` takes the eigenvectors u of the Gram matrix and v = W^H u / |W^H u|. `upper_bound` squares the Gram matrix k
times: for P = W W^H, n = 2^k, and r the rank of P,

    sigma <= bound = |P^n|_F^(1/2n) <= r^(1/4n) sigma
    d bound = Re <D, dW>,      D = bound P^(2n-1) W / tr P^(2n),      P^(2n-1) = P^n ... P^4 P^2 P

(Gram iteration: Delattre, Barthelemy, Araujo, Allauzen, ICML 2023). It is a bound for every W, made of matrix products,
smooth, and needs nothing from one call to the next. The factor is at most 1.011 for r = 256 and k = 7.

Both are homogeneous in W and therefore equal to Re <D, W> with the derivative D, which is u v^H of `largest`: computed
with D held, value and gradient are exact, nothing is kept for the backward but D, and a second derivative is not had.

A convolution on a torus is, in the frequency domain, one matrix (out, in) for each frequency: its singular values are
theirs (Sedghi, Gupta, Long, ICLR 2019). With zeros around the image it is a part of that on a torus which is larger by
the kernel, and its norm therefore at most as large; a stride leaves out rows and can only make it smaller.
"""

import torch
from torch import Tensor


def largest(blocks: Tensor) -> Tensor:
    """The largest singular value, shape (), of matrices (n, m, k), real or complex; decomposed in double precision."""
    with torch.no_grad():
        B = _wide(blocks.detach().to(torch.promote_types(blocks.dtype, torch.float64)))
        values, vectors = torch.linalg.eigh(B @ B.mH)
        place = values[:, -1].argmax(0, keepdim=True)  # stays on the device
        u = _at(place, vectors)[:, -1]
        v = _at(place, B).mH @ u
        v = v / torch.linalg.vector_norm(v).clamp_min(torch.finfo(v.dtype).tiny)
    W = _at(place, _wide(blocks))
    return (u.to(W.dtype).conj() @ (W @ v.to(W.dtype))).real


def upper_bound(blocks: Tensor, squarings: int = 7) -> Tensor:
    """At least the largest singular value, shape (), of matrices (n, m, k), real or complex; up to rounding."""
    with torch.no_grad():
        B = _wide(blocks.detach())
        size = _norm(B)
        B = B / size  # the fourth power of an entry does not fit into float32
        P = odd = B @ B.mH
        logarithm = torch.zeros_like(size)
        for _ in range(squarings):
            norm = _norm(P)
            logarithm = 2 * (logarithm + norm.log())
            P = P / norm
            P = P @ P
            odd = odd @ P
            odd = odd / _norm(odd)
        logarithm = logarithm + _norm(P).log()
        bounds = (logarithm / 2 ** (squarings + 1)).exp()  # over size
        place = (size * bounds).flatten().argmax(0, keepdim=True)
        slope = _at(place, odd) @ _at(place, B)
        slope = slope / _positive((slope.conj() * _at(place, B)).sum().real) * _at(place, bounds)
    return (slope.conj() * _at(place, _wide(blocks))).sum().real


def frequencies(kernel: Tensor, size: tuple[int, int], dilation: tuple[int, int] = (1, 1), groups: int = 1) -> Tensor:
    """The matrices (groups n, out / groups, in / groups) complex of a kernel (out, in / groups, h, w) on a torus.

    Of the height x width frequencies n are needed, as the others are conjugates. The torus has to hold the kernel.
    """
    out, inner, h, w = kernel.shape
    spread = kernel.new_zeros(out, inner, (h - 1) * dilation[0] + 1, (w - 1) * dilation[1] + 1)
    spread[:, :, :: dilation[0], :: dilation[1]] = kernel
    transformed = torch.fft.rfft2(spread, s=size).flatten(2)  # (out, in / groups, n)
    return transformed.view(groups, out // groups, inner, -1).permute(0, 3, 1, 2).flatten(0, 1)


def _at(place: Tensor, blocks: Tensor) -> Tensor:
    """The block at a place of shape (1,)."""
    return blocks.index_select(0, place)[0]


def _wide(blocks: Tensor) -> Tensor:
    return blocks if blocks.shape[-2] <= blocks.shape[-1] else blocks.mH


def _norm(blocks: Tensor) -> Tensor:
    """The Frobenius norm of each, (n, 1, 1), above zero."""
    return _positive(torch.linalg.matrix_norm(blocks, keepdim=True))


def _positive(value: Tensor) -> Tensor:
    return value.clamp_min(torch.finfo(value.dtype).tiny)
