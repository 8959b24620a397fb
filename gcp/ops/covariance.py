r"""Covariance of a feature map over its positions.

    X: (B, d, M) from (B, d, H, W), M = H W samples;   Xc = X - mean_M(X);   P = Xc Xc^T / M.

The mean is subtracted, so no M x M centring matrix exists. The gradient is dL/dX = (G + G^T) Xc / M: its
sum over the samples is zero already, so the mean needs no term of its own.

The Gram matrix K = Xc^T Xc / M (M x M) has the non-zero eigenvalues of P and is the smaller of the two
wherever a map has fewer positions than channels.

An eigenvalue counts as zero when it is below the noise of the decomposition, measured at 5 eps l_max and
taken as 16 eps l_max, or below what the rounding of the mean leaves on a constant map (`noise_floor`).
A larger threshold destroys true eigenvalues in float32.
"""

import torch
from torch import Tensor

from gcp.errors import ShapeError
from gcp.ops.numerics import first_order, outside_autocast, require_real, sym, trace

SLICE = 8 * 2**20  # bytes
ORDINARY = 2.0**20  # features between 1 / ORDINARY and ORDINARY are computed with as they are


def check_map(x: Tensor) -> None:
    """Raise ShapeError unless x is a real feature map (B, C, H, W) with at least one channel and one position."""
    require_real(x, "a feature map")
    if x.ndim != 4:
        raise ShapeError(f"a feature map (B, C, H, W) is needed, got shape {tuple(x.shape)}.")
    if 0 in x.shape[1:]:
        raise ShapeError(f"the feature map is empty: shape {tuple(x.shape)}.")


def samples(x: Tensor) -> Tensor:
    """View a feature map (B, d, H, W) as samples (B, d, M).

    Raises:
        ShapeError: not four dimensions, an empty one, or a single position (its covariance is zero).
    """
    check_map(x)
    check_samples(x.shape[2], x.shape[3])
    return x.flatten(2)


def check_samples(height: int, width: int) -> None:
    """Raise ShapeError for a map of one position: its covariance is zero."""
    if height * width == 1:
        raise ShapeError(
            "a covariance needs at least two samples, but the feature map is 1x1: use larger images "
            "(data.image_size) or a smaller stride (model.last_stride=1); "
            "the heads 'average' and 'bilinear' accept a 1x1 map."
        )


def centre(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Centred samples Xc (B, d, M) of a feature map (B, d, H, W), in `dtype`."""
    X = samples(x).to(dtype, copy=True)
    return X.sub_(X.mean(2, keepdim=True))


def working_samples(x: Tensor, dtype: torch.dtype, centred: bool) -> Tensor:
    """Samples (B, d, M) of a feature map in `dtype`: centred, for a covariance, or as they are, for X X^T / M."""
    return centre(x, dtype) if centred else x.flatten(2).to(dtype)


def noise_floor(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Total variance (B,) that the rounding of the mean alone can leave on a constant map.

    (8 eps)^2 sum_c mean(x_c^2): eight units in the last place of each channel's mean, squared.
    """
    X = samples(x)
    power = torch.linalg.vector_norm(X, dim=2, dtype=dtype).square().sum(1) / X.shape[2]
    return (8 * torch.finfo(dtype).eps) ** 2 * power


def unit_scale(x: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Numbers (B, 1, 1, 1) by which to divide each map (B, d, H, W), 1 where nothing can over- or underflow.

    Squares of features below 1e-20 or above 1e19 leave the range of float32, and products of a covariance sooner.
    They are powers of two, which change no other digit; in an exported program, which reads no bits of a number, they
    are the largest features themselves. None where the range of `dtype` holds the squares of all that x can be, or
    where every number is 1 (found out on the CPU in eager mode only).
    """
    if x.numel() == 0 or x.dtype == torch.float16 or (dtype == torch.float64) != (x.dtype == torch.float64):
        return None
    x = x.detach()
    # two passes, and twenty times faster than `vector_norm` of order infinity on the CPU
    largest = torch.maximum(x.amax((1, 2, 3), keepdim=True), -x.amin((1, 2, 3), keepdim=True)).to(dtype)
    ordinary = (largest == 0) | ((largest > 1 / ORDINARY) & (largest < ORDINARY))
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return torch.where(ordinary, 1, largest).to(x.dtype)
    if x.device.type == "cpu" and not torch.compiler.is_compiling() and bool(ordinary.all()):
        return None
    bits, exponent = (torch.int32, 0x7F800000) if dtype == torch.float32 else (torch.int64, 0x7FF0000000000000)
    power = (largest.clamp(min=torch.finfo(dtype).tiny).view(bits) & exponent).view(dtype)
    return torch.where(ordinary, 1, power).to(x.dtype)


def null_threshold(eigenvalues: Tensor, floor: Tensor | None = None) -> Tensor:
    """Largest value (B, 1) that counts as zero among eigenvalues (B, n); `floor` is (B,) or None."""
    threshold = 16 * torch.finfo(eigenvalues.dtype).eps * eigenvalues.amax(1, keepdim=True)
    return threshold if floor is None else torch.maximum(threshold, floor[:, None])


def without_noise(eigenvalues: Tensor, floor: Tensor | None = None) -> Tensor:
    """Eigenvalues (B, n), exactly 0 where they count as zero."""
    return eigenvalues.masked_fill(eigenvalues <= null_threshold(eigenvalues, floor), 0)


def zero_noise(P: Tensor, floor: Tensor | None) -> Tensor:
    """Zero matrices whose trace is within the rounding of the mean; the iterations cannot tell it from signal."""
    if floor is None:
        return P
    return torch.where((trace(P) > floor)[:, None, None], P, 0)


def gram(Xc: Tensor) -> Tensor:
    """K = Xc^T Xc / M, (B, M, M), of centred samples (B, d, M)."""
    return (Xc.mT @ Xc).div_(Xc.shape[2])


def _slices(x: Tensor, dtype: torch.dtype) -> list[slice]:
    """Parts of the batch whose centred copy stays under SLICE bytes, on the CPU in eager mode; else the whole.

    A centred batch in float64 is fresh memory at every call, and faulting its pages in costs more than the
    product that it is made for (28x28 maps, d = 256: 29 ms whole, 13 ms in slices, 10 of them arithmetic).
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return [slice(None)]
    step = max(1, SLICE // (x[0].numel() * dtype.itemsize)) if len(x) else 1
    return [slice(start, start + step) for start in range(0, len(x), step)]


def covariance_matrix(x: Tensor, dtype: torch.dtype, centred: bool = True) -> Tensor:
    """P = Xc Xc^T / M (B, d, d) in `dtype` of a feature map (B, d, H, W), X X^T / M if not centred; no gradient."""
    parts = []
    for part in _slices(x, dtype):
        Xc = working_samples(x[part], dtype, centred)
        parts.append((Xc @ Xc.mT).div_(Xc.shape[2]))
    return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else x.new_zeros(0, x.shape[1], x.shape[1])


def covariance_gradient(G: Tensor, x: Tensor, centred: bool = True) -> Tensor:
    """dL/dx = 2 G Xc / M in the shape and dtype of x, for a symmetric gradient G (B, d, d) of `covariance_matrix`."""
    gradient = torch.empty_like(x, memory_format=torch.contiguous_format)
    for part in _slices(x, G.dtype):
        Xc = working_samples(x[part], G.dtype, centred)
        gradient[part] = (G[part].mul(2 / Xc.shape[2]) @ Xc).view(x[part].shape)
    return gradient


class _Covariance(torch.autograd.Function):
    """Saves the features only; the centred copy is made again in the backward."""

    @staticmethod
    def forward(ctx, x: Tensor, dtype: torch.dtype) -> Tensor:
        scale = unit_scale(x, dtype)
        unit = x if scale is None else x / scale
        P = covariance_matrix(unit, dtype)
        # a constant map leaves the rounding of its mean, which is not signal
        alive = (trace(P) > noise_floor(unit, dtype))[:, None, None]
        ctx.save_for_backward(x, alive)
        ctx.dtype = dtype
        P.mul_(alive)
        return P if scale is None else P * scale[:, 0].to(dtype) * scale[:, 0].to(dtype)

    @staticmethod
    def backward(ctx, G: Tensor) -> tuple[Tensor, None]:
        x, alive = ctx.saved_tensors
        with torch.no_grad(), outside_autocast(x):
            gradient = covariance_gradient(sym(G).mul_(alive), x)
        return first_order(gradient, G, x), None


def covariance(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Covariance (B, d, d) of a feature map (B, d, H, W), computed in `dtype` (that of x by default).

    First order only: a double backward raises.
    """
    with outside_autocast(x):
        return _Covariance.apply(x, dtype or x.dtype)
