r"""The invertible layers of Glow (Kingma and Dhariwal, NeurIPS 2018), each with its log-determinant, and a baseline.

squeeze    Blocks of 2x2 pixels become channels: no number changes, so the log-determinant is zero. The order is that of
           `torch.nn.functional.pixel_unshuffle`, which cannot do it for no image at all.
ActNorm    Scale and shift of each channel, set by the first batch so that it leaves them with mean 0 and deviation 1
           (section 3.1). It stands where a batch norm would, and does not depend on the batch afterwards. That it has
           been set is part of the checkpoint.
Coupling   Half of the channels moves the other half, by a network that need not be invertible:
           x = (a, b),  y = (a, (b + t(a)) exp(s(a))),  log-determinant = sum of s(a)  (Dinh et al., ICLR 2017; NICE
           without s, 2015). The last layer of the network starts at zero, so that the coupling starts as the identity.
           s stays within -2 and 2, which bounds what rounding an inverse can lose.
Split      Where numbers leave the flow, what they are expected to be is learned, and taken out: e = (z - m) exp(-s). m
           and s are convolutions of the channels that stay (`Split`), or parameters of their own at the top (`Prior`).
           So a flow is one bijection between an image and numbers e that are independent and standard normal.
FlowStep   Actnorm, invertible 1x1 convolution, coupling.
Gaussian   The baseline: one normal distribution with a full covariance, of the greatest likelihood.

Grey levels 0 .. n-1 become continuous by uniform noise, y = (level + u) / n with u in [0, 1) (Theis et al., ICLR 2016,
section 3.1). The log-density of y in nats bounds the log-probability of the levels, for an image of D numbers:

    bits per dimension = -log p(y) / (D log 2) + log2 n
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import DataError, NonFiniteError, OptionError, UnknownNameError
from gcp.layers.frame import exempt
from gcp.layers.invertible import InvertibleConv1x1
from gcp.ops.numerics import outside_autocast


def normal_log_density(z: Tensor) -> Tensor:
    """Log-density in nats of the standard normal at z (B, ...), of each sample (B,)."""
    z = z.flatten(1)
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))


def bits_per_dimension(log_density: Tensor, dimensions: int, levels: int) -> Tensor:
    """Bits of each image (B,), per number of it.

    Args:
        log_density: (B,) in nats, of images scaled to an interval of length 1.
        dimensions: numbers in an image.
        levels: grey levels of the discrete image.
    """
    return math.log2(levels) - log_density / (dimensions * math.log(2))


def positions(x: Tensor) -> int:
    """Height times width of (B, C, H, W)."""
    return x.shape[2] * x.shape[3]


def each_sample(logarithm: Tensor, x: Tensor) -> Tensor:
    """A log-determinant that is the same for all samples, shape (), as one of each (B,)."""
    return torch.as_tensor(logarithm).expand(len(x))


def squeeze(x: Tensor) -> Tensor:
    """(B, C, H, W) with even sides to (B, 4 C, H / 2, W / 2)."""
    B, C, H, W = x.shape
    return x.reshape(B, C, H // 2, 2, W // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(B, 4 * C, H // 2, W // 2)


def unsqueeze(x: Tensor) -> Tensor:
    """(B, 4 C, H, W) to (B, C, 2 H, 2 W)."""
    B, C, H, W = x.shape
    return x.reshape(B, C // 4, 2, 2, H, W).permute(0, 1, 4, 2, 5, 3).reshape(B, C // 4, 2 * H, 2 * W)


LEAST = 1e-6  # of a deviation: below it a channel is constant, and its scale is left at 1


class ActNorm(nn.Module):
    """y = (x + b) exp(s) on the channels of (B, C, H, W); the identity until `initialise`."""

    initialised: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("initialised", torch.tensor(False))
        exempt(self)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set shift and scale by the statistics of x (B, C, H, W).

        Raises:
            NonFiniteError: inf or NaN in x.
        """
        values = x.double().transpose(0, 1).flatten(1)
        mean, deviation = values.mean(1), values.std(1, correction=0)
        if not bool(torch.isfinite(deviation).all()):
            raise NonFiniteError("the images that a flow begins with give inf or NaN")
        scale = torch.where(deviation > LEAST, deviation, 1)
        self.shift.copy_(-mean.view_as(self.shift))
        self.log_scale.copy_(-scale.log().view_as(self.log_scale))
        self.initialised.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y, and the log-determinant of each sample (B,)."""
        return (x + self.shift) * self.log_scale.exp(), each_sample(positions(x) * self.log_scale.sum(), x)

    def inverse(self, y: Tensor) -> Tensor:
        """x of y."""
        return y * (-self.log_scale).exp() - self.shift


class Gaussian(nn.Module):
    """log p(x) = log N(L^(-1) (x - m); 0, I) - log det L, covariance L L^T of the images that it is fitted to.

    Args:
        batches: images (B, C, H, W), gone over once; mean and covariance are accumulated in float64.

    Raises:
        DataError: fewer images than make the covariance regular.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, batches: Iterable[Tensor]):
        super().__init__()
        count, total, products, shift = 0, torch.zeros(()), torch.zeros(()), None
        for images in batches:
            x = images.flatten(1).double()
            shift = x.mean(0) if shift is None else shift  # near the mean, so that the difference below is small
            x = x - shift
            count, total, products = count + len(x), total + x.sum(0), products + x.mT @ x
        if shift is None or count <= len(shift):
            raise DataError(f"{count} images are too few for a full covariance; it takes more than numbers in an image")
        centre = total / count
        factor, failed = torch.linalg.cholesky_ex(products / count - torch.outer(centre, centre))
        if failed:
            raise DataError("the covariance of the images is singular: a number of them is constant without noise")
        self.register_buffer("mean", shift + centre)
        self.register_buffer("factor", factor)

    def forward(self, images: Tensor) -> Tensor:
        """Log-density in nats of each image (B,), float64."""
        centred = images.flatten(1).to(self.mean) - self.mean
        z = torch.linalg.solve_triangular(self.factor, centred.mT, upper=False).mT
        return normal_log_density(z) - self.factor.diagonal().log().sum()


LIMIT = 2.0  # greatest |s|
COUPLINGS = ("affine", "additive")


def bounded(raw: Tensor) -> Tensor:
    """`raw` where it is small, within -LIMIT and LIMIT everywhere."""
    return LIMIT * torch.tanh(raw / LIMIT)


def zero_convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution that starts at zero."""
    made = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.zeros_(made.weight)
    nn.init.zeros_(made.bias)  # type: ignore[arg-type]
    return made


class Coupling(nn.Module):
    """The first half of the channels (rounded down) moves the rest of (B, C, H, W), C >= 2.

    Args:
        channels: C.
        width: channels of the two hidden layers.
        kind: `affine`, or `additive`, without s.
        dropout: before the last layer of the network. An inverse undoes a forward pass in eval mode only.

    Raises:
        OptionError: fewer than two channels; UnknownNameError: another kind.
    """

    def __init__(self, channels: int, width: int, kind: str = "affine", dropout: float = 0.0):
        super().__init__()
        if kind not in COUPLINGS:
            raise UnknownNameError("coupling", kind, COUPLINGS)
        if channels < 2:
            raise OptionError(f"a coupling needs at least two channels, got {channels}.")
        self.sizes, self.affine = (channels // 2, channels - channels // 2), kind == "affine"
        kept, moved = self.sizes
        self.network = nn.Sequential(
            nn.Conv2d(kept, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
            nn.Dropout(dropout),
            zero_convolution(width, 2 * moved if self.affine else moved),
        )

    def _motion(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """t and s."""
        out = self.network(kept).to(kept)  # of bfloat16 under autocast
        if not self.affine:
            return out, torch.zeros_like(out)
        shift, raw = out.chunk(2, dim=1)
        return shift, bounded(raw)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y, and the log-determinant of each sample (B,)."""
        kept, moved = x.split(self.sizes, dim=1)
        shift, log_scale = self._motion(kept)
        return torch.cat((kept, (moved + shift) * log_scale.exp()), dim=1), log_scale.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """x of y."""
        kept, moved = y.split(self.sizes, dim=1)
        shift, log_scale = self._motion(kept)
        return torch.cat((kept, moved * (-log_scale).exp() - shift), dim=1)


class Split(nn.Module):
    """Half of the channels (rounded up) leaves (B, C, H, W); its prior is conditional on the rest."""

    def __init__(self, channels: int):
        super().__init__()
        self.sizes = (channels // 2, channels - channels // 2)
        self.prior = zero_convolution(self.sizes[0], 2 * self.sizes[1])

    def _expected(self, stays: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.prior(stays).to(stays).chunk(2, dim=1)
        return mean, bounded(raw)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The channels that stay, e of the others, and the log-determinant of each sample (B,)."""
        stays, leaves = x.split(self.sizes, dim=1)
        mean, log_scale = self._expected(stays)
        return stays, (leaves - mean) * (-log_scale).exp(), -log_scale.flatten(1).sum(1)

    def inverse(self, stays: Tensor, e: Tensor) -> Tensor:
        """x of both parts."""
        mean, log_scale = self._expected(stays)
        return torch.cat((stays, e * log_scale.exp() + mean), dim=1)


class Prior(nn.Module):
    """The end of the flow: mean and deviation of each number of (C, H, W)."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(shape))
        self.log_scale = nn.Parameter(torch.zeros(shape))
        exempt(self)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """e, and the log-determinant of each sample (B,)."""
        return (z - self.mean) * (-self.log_scale).exp(), each_sample(-self.log_scale.sum(), z)

    def inverse(self, e: Tensor) -> Tensor:
        """z of e."""
        return e * self.log_scale.exp() + self.mean


class FlowStep(nn.Module):
    """(B, C, H, W) -> the same shape.

    Args:
        channels: C.
        width, coupling, dropout: of the coupling, see `Coupling`.
        form: of the 1x1 convolution, see `InvertibleConv1x1`.
        **options: of the form.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        form: str = "svd",
        coupling: str = "affine",
        dropout: float = 0.0,
        **options: Any,
    ):
        super().__init__()
        self.norm = ActNorm(channels)
        self.convolution = InvertibleConv1x1(channels, form, **options)
        self.coupling = Coupling(channels, width, coupling, dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y, and the log-determinant of each sample (B,)."""
        x, first = self.norm(x)
        with outside_autocast(x):  # only the networks leave float32: a rounded W x would have no exact inverse
            x, second = self.convolution(x)
        x, third = self.coupling(x)
        return x, first + second + third

    def inverse(self, y: Tensor) -> Tensor:
        """x of y."""
        x = self.coupling.inverse(y)
        with outside_autocast(x):
            x = self.convolution.inverse(x)
        return self.norm.inverse(x)
