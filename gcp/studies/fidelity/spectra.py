"""Feature maps whose covariance has a prescribed spectrum, and maps that are given.

    Xc = U diag(sqrt(M l)) V^T,    U (d, r) orthonormal, V (M, r) orthonormal and orthogonal to 1,

so that P = Xc Xc^T / M = U diag(l) U^T and every channel has mean zero. The largest eigenvalue is 1.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.ops.eigenvalues import conditions, effective_ranks, ranks
from gcp.studies.fidelity.features import relu_features


@dataclass(frozen=True)
class CovarianceSpectra:
    """Of the covariances of maps, each (B,): null eigenvalues are left out of all but the rank."""

    condition: Tensor
    effective_rank: Tensor
    rank: Tensor
    gap: Tensor


def singular_values(maps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """V (B, d, k), s (B, k), U^T (B, k, M) of Xc = V diag(s) U^T in float64, and which s are not null (B, k).

    Not by way of the covariance, which would square the condition number. Null is below the rounding of the
    decomposition, 4 max(d, M) eps s_max.
    """
    X = maps.double().flatten(2)
    V, s, Uh = torch.linalg.svd(X - X.mean(2, keepdim=True), full_matrices=False)
    noise = 4 * max(X.shape[1:]) * torch.finfo(torch.float64).eps
    return V, s, Uh, s > noise * s[:, :1]


def spectrum_of(maps: Tensor) -> CovarianceSpectra:
    """Condition number, effective rank, rank and smallest gap of the covariances of maps (B, d, H, W).

    As in `gcp.ops.eigenvalues`, but by way of the singular values and with the gap relative to the larger of its two
    eigenvalues, 1 where there are no two.
    """
    _, s, _, alive = singular_values(maps)
    eigenvalues = (s.square() * alive / (maps.shape[2] * maps.shape[3])).flip(1)
    gaps = 1 - eigenvalues[:, :-1] / eigenvalues[:, 1:].clamp(min=torch.finfo(torch.float64).tiny)
    gaps = torch.where(eigenvalues[:, :-1] > 0, gaps, 1)
    return CovarianceSpectra(
        conditions(eigenvalues),
        effective_ranks(eigenvalues),
        ranks(eigenvalues),
        torch.cat([gaps, torch.ones_like(eigenvalues[:, :1])], 1).amin(1),
    )


CONDITIONS = tuple(10.0**exponent for exponent in range(15))
GAPS = tuple(10.0**-exponent for exponent in range(1, 16))
CONDITION = 1e3  # of the spectra whose gap or rank is varied
ROOM = 1.5  # samples for each channel where the rank is to be full
WIDE = (256, 7)  # channels and side of the map that a ResNet at 224 gives to the published heads


@dataclass(frozen=True)
class FeatureMaps:
    """Maps of one kind: several draws (B, d, H, W) in float64, and what their spectra have in common.

    `condition` is the largest over the smallest eigenvalue that is not null, `gap` the smallest (a - b)/a among
    them, `rank_deficit` the number of null ones.
    """

    source: str
    maps: Tensor
    condition: float
    gap: float
    rank_deficit: int

    @property
    def channels(self) -> int:
        """Channels d."""
        return self.maps.shape[1]

    @property
    def samples(self) -> int:
        """Positions M = H W."""
        return self.maps.shape[2] * self.maps.shape[3]


def log_uniform(count: int, condition: float) -> Tensor:
    """Eigenvalues (count,) from 1 down to 1 / condition, equal ratios between neighbours."""
    exponents = torch.linspace(0, 1, count, dtype=torch.float64) if count > 1 else torch.zeros(1, dtype=torch.float64)
    return condition**-exponents


def pairs(count: int, condition: float, gap: float) -> Tensor:
    """Eigenvalues (count,) in pairs l and l (1 - gap), from 1 to 1 / condition; their larger ones are log-uniform."""
    larger = log_uniform(math.ceil(count / 2), condition * (1 - gap))
    return torch.stack([larger, larger * (1 - gap)], 1).flatten()[:count]


def maps_with(eigenvalues: Tensor, channels: int, side: int, draws: int, seed: int, zero: int = 0) -> Tensor:
    """Maps (draws, channels, side, side) float64 with these non-null eigenvalues.

    Args:
        eigenvalues: (r,), r at most channels - zero and at most side^2 - 1.
        channels: d.
        side: of the map, M = side^2.
        draws: random draws of the eigenvectors.
        seed: of the draws.
        zero: channels that are zero everywhere, the last ones.
    """
    generator = torch.Generator().manual_seed(seed)
    samples, rank, alive = side * side, len(eigenvalues), channels - zero
    U = torch.linalg.qr(torch.randn(draws, alive, rank, generator=generator, dtype=torch.float64))[0]
    V = torch.randn(draws, samples, rank + 1, generator=generator, dtype=torch.float64)
    V[:, :, 0] = 1  # the others become orthogonal to it
    V = torch.linalg.qr(V)[0][:, :, 1:]
    X = torch.zeros(draws, channels, samples, dtype=torch.float64)
    X[:, :alive] = (U * (samples * eigenvalues).sqrt()) @ V.mT
    return X.reshape(draws, channels, side, side)


def smallest_gap(eigenvalues: Tensor) -> float:
    """Smallest (a - b)/a between neighbours of (r,) eigenvalues > 0; 1 for a single one."""
    ordered = eigenvalues.sort(descending=True).values
    return float(((ordered[:-1] - ordered[1:]) / ordered[:-1]).min()) if len(ordered) > 1 else 1.0


def _setting(source: str, eigenvalues: Tensor, channels: int, side: int, draws: int, seed: int, **known) -> FeatureMaps:
    maps = maps_with(eigenvalues, channels, side, draws, seed, known.pop("zero", 0))
    facts = {"condition": float(eigenvalues.max() / eigenvalues.min()), "gap": smallest_gap(eigenvalues)}
    return FeatureMaps(source, maps, **(facts | known), rank_deficit=channels - len(eigenvalues))


def _full(channels: int) -> int:
    """Side of a map with samples enough for full rank."""
    return math.ceil(math.sqrt(ROOM * channels))


def condition_sweep(channels: int, draws: int, seed: int) -> Iterator[FeatureMaps]:
    """Log-uniform spectra of full rank; at 1e0 all eigenvalues are equal."""
    for condition in CONDITIONS:
        spectrum = log_uniform(channels, condition)
        yield _setting("condition", spectrum, channels, _full(channels), draws, seed, condition=condition)


def gap_sweep(channels: int, draws: int, seed: int) -> Iterator[FeatureMaps]:
    """Full rank, condition number 1e3, eigenvalues in pairs that come closer."""
    for gap in GAPS:
        spectrum = pairs(channels, CONDITION, gap)
        yield _setting("gap", spectrum, channels, _full(channels), draws, seed, gap=gap)


def samples_sweep(channels: int, draws: int, seed: int) -> Iterator[FeatureMaps]:
    """Fewer and fewer samples: M - 1 eigenvalues that are not null, from 1 to 1e-3."""
    for side in range(math.isqrt(channels) + 1, 1, -1):
        spectrum = log_uniform(min(channels, side * side - 1), CONDITION)
        yield _setting("samples", spectrum, channels, side, draws, seed)


def wide_sweep(channels: int, draws: int, seed: int) -> Iterator[FeatureMaps]:
    """49 samples for 256 channels, whatever `channels`."""
    wide, side = WIDE
    yield _setting("samples", log_uniform(side * side - 1, CONDITION), wide, side, draws, seed)


def zero_sweep(channels: int, draws: int, seed: int) -> Iterator[FeatureMaps]:
    """More and more channels that are zero everywhere, the others with eigenvalues from 1 to 1e-3."""
    for zero in sorted({0, *(2**k for k in range(12) if 2**k <= channels // 2), 3 * channels // 4}):
        spectrum = log_uniform(channels - zero, CONDITION)
        yield _setting("zero_channels", spectrum, channels, _full(channels), draws, seed, zero=zero)


def relu_sweep(channels: int, draws: int, seed: int) -> Iterator[FeatureMaps]:
    """ReLU features (`gcp.studies.fidelity.features`): full rank."""
    yield given(f"relu {channels}", relu_features(draws, channels, _full(channels), torch.float32, seed))


def relu_wide_sweep(channels: int, draws: int, seed: int) -> Iterator[FeatureMaps]:
    """ReLU features: 49 samples for 256 channels, whatever `channels`."""
    wide, side = WIDE
    yield given(f"relu {wide}", relu_features(draws, wide, side, torch.float32, seed))


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """First quartile, median and third, each one of the values, NaN left out; three NaN where nothing is left."""
    known = sorted(value for value in values if not math.isnan(value))
    if not known:
        return math.nan, math.nan, math.nan
    last = len(known) - 1
    return known[last // 4], known[last // 2], known[last - last // 4]


def given(source: str, maps: Tensor) -> FeatureMaps:
    """The setting of maps (B, d, H, W) that come from elsewhere: medians of what is measured on them."""
    found = spectrum_of(maps)
    condition, gap, rank = (quartiles(each.tolist())[1] for each in (found.condition, found.gap, found.rank))
    return FeatureMaps(source, maps.double(), condition, gap, rank_deficit=maps.shape[1] - int(rank))


# of the sweeps that have an axis: the column of a row, and what it is called
AXES = {
    "condition": ("condition", "condition number"),
    "gap": ("gap", "smallest relative gap (a - b)/a"),
    "samples": ("rank_deficit", "null eigenvalues, from too few samples"),
    "zero_channels": ("rank_deficit", "null eigenvalues, from zero channels"),
}
SWEEPS = {
    "condition": (condition_sweep,),
    "gap": (gap_sweep,),
    "samples": (samples_sweep, wide_sweep),
    "zero_channels": (zero_sweep,),
    "relu": (relu_sweep, relu_wide_sweep),
}


def settings(sweeps: Sequence[str], dims: Sequence[int], draws: int, seed: int) -> Iterator[FeatureMaps]:
    """The settings of sweeps by name, for each number of channels; those of fixed width once."""
    for name in sweeps:
        for sweep in SWEEPS[name]:
            fixed = sweep in (wide_sweep, relu_wide_sweep)
            for channels in dims[:1] if fixed else dims:
                yield from sweep(channels, draws, seed)
