"""The best approximations of a layer, of all ranks at once.

All methods minimise |(W - W_r) M|_F over matrices of rank r, W (m, n); they differ in M:

    svd          M = I                      error in the weight
    asvd         M = diag(mean |x_j|^a)     inputs by their size (Yuan et al. 2023, arXiv:2312.05821), a = 1/2
    output_pca   M = E[x x^T]^(1/2)         error in the output: P = W M M^T W^T is the covariance of y = W x

With W M = U S V^T (float64, by the Gram matrix of the smaller side) the minimum is

    W_r = U_r (U_r^T W) = (W M V_r) (V_r^T M^-1),      error^2 = sum of the squared singular values left out

where the first form needs the outputs alone (m <= n), the second the inputs. Where the data leave directions of
`output_pca` empty, plain SVD decides: P gets `RIDGE` times its own size in directions of W W^T. For a layer with bias
the moments are about the mean, and the bias takes back the mean difference; without one they are about zero.

Tucker-2 takes U of the output channels likewise, and V of the input channels, for which `output_pca` uses second
moments of the channels at single positions. Its error is estimated as the sum of both parts.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcp.compress.factored import Factored, TuckerConv2d
from gcp.compress.statistics import Moments, Statistics, has_kernel, output_side
from gcp.errors import OptionError
from gcp.kernels.cpu import set_threads

METHODS = ("svd", "asvd", "output_pca")
EXPONENT = 0.5  # of asvd, as published
RIDGE = 1e-6
NULL = 1e-14  # of the greatest squared singular value: what rounding leaves of zeros in a float32 weight


@dataclass(frozen=True)
class Basis:
    """Factors of W (m, n) for every rank r, in float64: up (m, p)[:, :r] and down.

    Attributes:
        weight: W, flattened to (m, n).
        up: orthonormal columns where `down` is None, which is `up^T W` then.
        down: (p, n) or None.
        energies: (p,), what each rank adds to the squared norm.
        channels: the input channels of a convolution with a kernel, for Tucker-2: (V^T M^-1, M V, their energies).
        shape: of the layer's weight.
    """

    weight: Tensor
    up: Tensor
    down: Tensor | None
    energies: Tensor
    channels: tuple[Tensor, Tensor, Tensor] | None
    shape: tuple[int, ...]

    @torch.no_grad()
    def fill(self, new: Factored) -> None:
        """Give a factored layer the weights of its ranks."""
        if isinstance(new, TuckerConv2d):
            assert self.channels is not None
            r, s = new.ranks
            up, down, back = self.up[:, :s], self.channels[0][:r], self.channels[1][:, :r]
            core = torch.einsum("os,oihw,ir->srhw", up, self.weight.reshape(self.shape), back)
            _put(new.core, core)
        else:
            (r,) = new.ranks
            up = self.up[:, :r]
            down = up.mT @ self.weight if self.down is None else self.down[:r]
            # Rows and columns of equal norm: neither factor leaves the range of half precision.
            scale = (down.norm(dim=1) / up.norm(dim=0).clamp(min=1e-300)).sqrt()
            scale = torch.where(scale > 0, scale, 1.0)
            up, down = up * scale, down / scale[:, None]
        _put(new.down, down)
        _put(new.up, up)


def _put(factor: Any, values: Tensor) -> None:
    factor.weight.copy_(values.reshape(factor.weight.shape))


@torch.no_grad()
def basis(layer: Any, method: str, statistics: Statistics | None = None, unseen: Statistics | None = None) -> Basis:
    """The approximations of a Linear or Conv2d; `statistics` are what `asvd` and `output_pca` need.

    `unseen` are those of other samples, on which `output_pca` estimates the errors of all ranks: on the samples that
    the factors are made from they vanish as soon as there are as many ranks as samples.
    """
    weight = _double(layer.weight).flatten(1)
    shape = tuple(layer.weight.shape)
    if method == "svd":
        return _plain(layer, weight, weight.new_ones(shape[1]), shape)
    if statistics is None:
        raise OptionError(f"method {method!r} needs calibration data")
    if method == "asvd":
        assert isinstance(statistics.magnitude, Tensor)
        mean = (statistics.magnitude / statistics.read).to(weight.device) ** EXPONENT
        return _plain(layer, weight, mean.clamp(min=RIDGE * mean.max()) if mean.any() else mean + 1, shape)
    return _pca(layer, weight, statistics, unseen or statistics, shape)


def _plain(layer: nn.Module, weight: Tensor, scale: Tensor, shape: tuple[int, ...]) -> Basis:
    """M = diag(scale), one number for each input channel."""
    wide = scale.repeat_interleave(weight.shape[1] // len(scale))
    scaled = weight * wide
    channels = None
    if has_kernel(layer):
        values, V = _leading(_channel_gram(scaled.reshape(shape)))
        channels = V.mT / scale, scale[:, None] * V, values
    if weight.shape[0] <= weight.shape[1]:
        values, U = _leading(scaled @ scaled.mT)
        return Basis(weight, U, None, values, channels, shape)
    values, V = _leading(scaled.mT @ scaled)
    return Basis(weight, scaled @ V, V.mT / wide, values, channels, shape)


def _pca(layer: Any, weight: Tensor, statistics: Statistics, unseen: Statistics, shape: tuple[int, ...]) -> Basis:
    centred = layer.bias is not None
    channels = None
    if has_kernel(layer):
        M, inverse = _root(_second(statistics.inputs, False, weight))
        turned = torch.einsum("oihw,ij->ojhw", weight.reshape(shape), M)
        values, V = _leading(_channel_gram(turned))
        energies = values * _energies(inverse @ V, _second(unseen.inputs, False, weight))
        channels = V.mT @ inverse, M @ V, energies
    if output_side(layer):
        P = _second(statistics.outputs, centred, weight)
        gram = weight @ weight.mT
        ridge = torch.where(P.trace() > 0, RIDGE * P.trace() / gram.trace().clamp(min=1e-300), 1.0)
        U = _leading_within(P + ridge * gram, gram, weight.shape[1])
        return Basis(weight, U, None, _energies(U, _second(unseen.outputs, centred, weight)), channels, shape)
    M, inverse = _root(_second(statistics.inputs, centred, weight))
    turned = weight @ M
    values, V = _leading(turned.mT @ turned)
    energies = values * _energies(inverse @ V, _second(unseen.inputs, centred, weight))
    return Basis(weight, turned @ V, V.mT @ inverse, energies, channels, shape)


def _energies(U: Tensor, P: Tensor) -> Tensor:
    """u^T P u of every column: what it stands for in other samples, and without the ridge."""
    return ((P @ U) * U).sum(0).clamp(min=0)


def _second(moments: Moments | None, centred: bool, like: Tensor) -> Tensor:
    assert moments is not None
    return moments.second(centred).to(like)


def _root(second: Tensor) -> tuple[Tensor, Tensor]:
    """Root of a second moment and its inverse, with `RIDGE` of the mean variance in every direction."""
    values, Q = eigh(second)
    mean = values.mean().clamp(min=0)
    values = values.clamp(min=0) + torch.where(mean > 0, RIDGE * mean, 1.0)
    return (Q * values.sqrt()) @ Q.mT, (Q / values.sqrt()) @ Q.mT


def _channel_gram(weight: Tensor) -> Tensor:
    """(m, c, h, w) -> (c, c)."""
    flat = weight.movedim(1, 0).flatten(1)
    return flat @ flat.mT


def _leading(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, 0 where they count as zero, and eigenvectors of a symmetric matrix >= 0, the greatest first."""
    values, vectors = eigh(gram)
    null = values <= NULL * values[-1]
    return values.masked_fill(null, 0).flip(0), vectors.flip(1)


def _leading_within(P: Tensor, gram: Tensor, inputs: int) -> Tensor:
    """Eigenvectors (m, p) of P, p = min(m, inputs), the greatest first.

    A kernel may have more outputs than inputs. P is zero outside the range of the weight then, but for rounding,
    which must not choose the directions: P is taken within that range.
    """
    if len(P) <= inputs:
        return _leading(P)[1]
    reach = _leading(gram)[1][:, :inputs]
    return reach @ _leading(reach.mT @ P @ reach)[1]


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Of one symmetric matrix, on the CPU by one thread: 1000 x 1000 take 0.15 s so, and 0.6 to 3 s by two threads
    on a machine that is busy.
    """
    threads = torch.get_num_threads()
    try:
        if matrix.device.type == "cpu":
            set_threads(1)
        return torch.linalg.eigh(matrix)
    finally:
        set_threads(threads)


def _double(weight: Tensor) -> Tensor:
    weight = weight.detach()
    return (weight.cpu() if weight.device.type == "mps" else weight).double()  # mps has no float64
