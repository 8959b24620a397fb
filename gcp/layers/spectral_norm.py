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
the kernel, and its norm therefore at most as large; a stride leaves out rows and can only make it smaller. How far the
norm of the torus is above depends on how much of the image is within reach of its edge, and no factor holds for all: a
k x k kernel of ones has norm 1 on a 1 x 1 map and k^2 on the torus. The worst of 300 random, positive or signed kernels
was 4 % above on 14 x 14 with a 3 x 3 kernel, 10 % with 5 x 5, 24 % with 7 x 7; on 7 x 7 maps 18, 40 and 77 %.

A weight divided by its spectral norm: W / sigma(W), as a parametrisation of any Linear or Conv2d.

    gcp.layers.spectral_norm(nn.Linear(64, 10), "bound")
    gcp.layers.spectral_norm(nn.Conv2d(16, 32, 3, padding=1), "bound", size=(14, 14))

What differs is sigma:

* `power`: |W v| after some power iterations on v, which is kept from call to call (Miyato et al., ICLR 2018). It is
  below the true norm, by as much as W has changed since v was right: the layer may exceed 1 by any factor;
* `exact`: the norm, by an eigendecomposition in every forward;
* `bound`: at least the norm, by matrix products only (`gcp.layers.spectral_norm`): the layer stays at or just below 1.

`exact` and `bound` keep nothing from call to call, so that what they promise holds in training, in evaluation, for
averaged weights and for those of a file alike. Of a convolution it is the norm of the matrix (out, in height width)
that multiplies each patch, or with `size` that of the operator on images of this size, with its padding and stride.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import register_parametrization

from gcp.errors import OptionError, suggest
from gcp.layers.frame import check_size
from gcp.layers.parametrize import Weight, find_parameter


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


M = TypeVar("M", nn.Linear, nn.Conv2d)
Size = tuple[int, int]
METHODS = ("power", "exact", "bound")
START = 30  # power iterations at the start, from vectors that are the same for every layer of a shape


def spectral_norm(module: M, method: str = "bound", steps: int = 1, size: Size | None = None) -> M:
    """Divide the weight of a layer by its spectral norm from now on; the module itself is returned.

    Args:
        module: Linear or Conv2d. No random number is drawn.
        method: `power`, `exact` or `bound`.
        steps: of `power`, in every forward in training mode.
        size: height and width of the images, for the norm of a convolution as an operator on them. `exact` then needs
            circular padding that keeps the size, and stride 1; `bound` zeros or circular padding.

    Raises:
        OptionError: an unknown method, a layer of another kind or that is parametrised already, a size where there is
            no convolution or the method has no answer.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> layer = layers.spectral_norm(torch.nn.Linear(6, 4), "exact")
        >>> round(torch.linalg.matrix_norm(layer.weight, 2).item(), 4)
        1.0
    """
    check_method(method)
    check_size("steps", steps, 1)
    if not isinstance(module, nn.Linear | nn.Conv2d):
        raise OptionError(f"spectral_norm takes a Linear or a Conv2d, got {type(module).__name__}.")
    if size is not None and not isinstance(module, nn.Conv2d):
        raise OptionError("size is that of the images of a convolution; leave it out for a Linear.")
    if find_parameter(module, "weight").is_complex():
        raise OptionError(f"spectral_norm takes real weights, got {module.weight.dtype}.")
    register_parametrization(module, "weight", _made(module, method, steps, size))
    return module


def check_method(method: str) -> None:
    """Raise OptionError for an unknown method."""
    if method not in METHODS:
        raise OptionError(f"spectral norm is {method!r}; allowed: {', '.join(METHODS)}.{suggest(str(method), METHODS)}")


def _made(module: nn.Module, method: str, steps: int, size: Size | None) -> "SpectralWeight":
    weight: Tensor = module.weight  # type: ignore[assignment]
    conv = module if isinstance(module, nn.Conv2d) and size is not None else None
    if method == "power":
        multiply = as_matrix if conv is None else convolution(conv)
        shape = (weight.shape[1:].numel(),) if conv is None else (1, conv.in_channels, *_checked(size))
        return PowerWeight(weight, shape, multiply, steps)
    blocks = as_block if conv is None else on_torus(conv, _checked(size), method)
    return BlockWeight(weight.shape, blocks, largest if method == "exact" else upper_bound)


class SpectralWeight(Weight):
    """W / sigma(W). A subclass defines `sigma`, of a weight in float32 at least."""

    def __init__(self, shape: torch.Size):
        super().__init__(shape, None)

    def sigma(self, W: Tensor) -> Tensor:
        """The norm, shape ()."""
        raise NotImplementedError

    def build(self, *originals: Tensor) -> Tensor:
        W = originals[0].to(torch.promote_types(originals[0].dtype, torch.float32))
        sigma = self.sigma(W)
        # A weight of zeros stays as it is, with a finite gradient: there is nothing to divide it by.
        return (W / torch.where(sigma > torch.finfo(sigma.dtype).tiny, sigma, 1)).to(originals[0].dtype)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """A weight that is assigned becomes the one that is divided."""
        return weight


class BlockWeight(SpectralWeight):
    """By the matrices that the weight consists of; keeps nothing."""

    def __init__(self, shape: torch.Size, blocks: Callable[[Tensor], Tensor], norm: Callable[[Tensor], Tensor]):
        super().__init__(shape)
        self.blocks, self.norm = blocks, norm

    def sigma(self, W: Tensor) -> Tensor:
        return self.norm(self.blocks(W))


class PowerWeight(SpectralWeight):
    """By power iterations; `v` is a buffer, so that a run goes on with it."""

    v: Tensor

    def __init__(
        self, weight: Tensor, shape: tuple[int, ...], multiply: Callable[[Tensor, Tensor], Tensor], steps: int
    ):
        super().__init__(weight.shape)
        self.multiply, self.steps = multiply, steps
        W = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
        self.register_buffer("v", torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(W))
        self._iterate(W, START)

    def sigma(self, W: Tensor) -> Tensor:
        if self.training:
            self._iterate(W.detach(), self.steps)
        v = self.v.to(W, copy=True)  # the next call overwrites it before the backward of this one
        return torch.linalg.vector_norm(self.multiply(W, v))

    def sources(self, originals: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*originals, self.v)

    def _iterate(self, W: Tensor, steps: int) -> None:
        v = self.v.to(W)
        # A zero vector would stay zero for ever; files of before have one where the weight was zero.
        v = torch.where(v.any(), v, v.numel() ** -0.5)
        for _ in range(steps):
            with torch.enable_grad():
                x = v.detach().requires_grad_()
                product = self.multiply(W, x)
            (following,) = torch.autograd.grad(product, x, product.detach())  # W^T W v
            norm = torch.linalg.vector_norm(following)
            # Of a zero weight there is no direction to follow: the vector stays until there is one.
            v = torch.where(norm > 0, following / norm.clamp_min(torch.finfo(v.dtype).tiny), v)
        with torch.no_grad():
            self.v.copy_(v)


def as_block(W: Tensor) -> Tensor:
    """The matrix of a weight as the only block, (1, out, in height width)."""
    return W.flatten(1)[None]


def as_matrix(W: Tensor, v: Tensor) -> Tensor:
    """The matrix of a weight times v."""
    return W.flatten(1) @ v


def convolution(conv: nn.Conv2d) -> Callable[[Tensor, Tensor], Tensor]:
    """(kernel, images) -> what `conv` makes of the images, without its bias."""
    return partial(
        _convolve,
        padding=conv.padding if conv.padding_mode == "zeros" else 0,
        around=[] if conv.padding_mode == "zeros" else list(conv._reversed_padding_repeated_twice),
        mode=conv.padding_mode,
        stride=conv.stride,
        dilation=conv.dilation,
        groups=conv.groups,
    )


def _convolve(W: Tensor, x: Tensor, around: list[int], mode: str, **how: Any) -> Tensor:
    return functional.conv2d(functional.pad(x, around, mode) if around else x, W, **how)


def on_torus(conv: nn.Conv2d, size: Size, method: str) -> Callable[[Tensor], Tensor]:
    """Kernel -> the matrices whose largest singular value is the norm of the convolution, or bounds it.

    Raises:
        OptionError: `exact` where it would be a bound only, `bound` where it would be none.
    """
    left, right, top, bottom = conv._reversed_padding_repeated_twice
    added, reach = (top + bottom, left + right), _reach(conv)
    circular = conv.padding_mode == "circular" and any(added)
    inside = all(each <= most for each, most in zip(added, reach, strict=True))
    if conv.padding_mode not in ("zeros", "circular") and any(added):
        _refuse(method, conv, "of padding it takes zeros and circular")
    if circular and not (inside and all(n > most for n, most in zip(size, reach, strict=True))):
        _refuse(method, conv, f"circular padding must not repeat a row of the image, here of {size[0]} x {size[1]}")
    whole = circular and added == reach and conv.stride == (1, 1)
    if method == "exact" and not whole and any(reach):
        _refuse(method, conv, "it takes circular padding that keeps the size, and stride 1; use bound or power")
    height, width = size if circular else (size[0] + added[0], size[1] + added[1])
    torus = (max(height, reach[0] + 1), max(width, reach[1] + 1)) if any(reach) else (1, 1)
    down, across = conv.dilation
    return partial(frequencies, size=torus, dilation=(down, across), groups=conv.groups)


def _reach(conv: nn.Conv2d) -> Size:
    """Rows and columns by which a kernel reaches beyond its first."""
    (h, w), (down, across) = conv.kernel_size, conv.dilation
    return (h - 1) * down, (w - 1) * across


def _refuse(method: str, conv: nn.Conv2d, why: str) -> NoReturn:
    raise OptionError(f"no {method!r} norm on images of {conv}: {why}.")


def _checked(size: Size | None) -> Size:
    fine = isinstance(size, tuple | list) and len(size) == 2
    if size is None or not fine or not all(isinstance(n, int) and n > 0 for n in size):
        raise OptionError(f"size is {size!r}; allowed: height and width of the images, such as (14, 14).")
    return size[0], size[1]
