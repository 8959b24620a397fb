r"""Tensor sketch: a random projection of x x^T to D dimensions by count sketches and the FFT.

A count sketch sends channel i to bucket h(i) with sign s(i). The circular convolution of two sketches of x is
a count sketch of x x^T with hash h1(i) + h2(j) mod D. Pham and Pagh, KDD 2013.
"""

import torch
from torch import Tensor


def hashes(channels: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Buckets (2, channels) int64 and signs (2, channels) float32, from their own generator."""
    generator = torch.Generator().manual_seed(seed)
    buckets = torch.randint(size, (2, channels), generator=generator)
    return buckets, 2.0 * torch.randint(2, (2, channels), generator=generator) - 1


def count_sketch(X: Tensor, buckets: Tensor, signs: Tensor, size: int) -> Tensor:
    """(B, M, C) -> (B, M, size)."""
    sketch = X.new_zeros(*X.shape[:2], size)
    return sketch.index_add(2, buckets, X * signs.to(X.dtype))


def tensor_sketch(X: Tensor, buckets: Tensor, signs: Tensor, size: int) -> Tensor:
    """Sum over M of the sketches of x x^T: (B, M, C) -> (B, size)."""
    if X.shape[0] == 0:  # some FFT libraries refuse it
        return X.sum((1, 2))[:, None].expand(-1, size)
    first, second = (torch.fft.rfft(count_sketch(X, buckets[i], signs[i], size)) for i in range(2))
    return torch.fft.irfft((first * second).sum(1), n=size)
