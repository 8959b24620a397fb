"""Errors of outputs and gradients against the exact ones, over several draws.

A gradient with inf or NaN has the error inf. The exact gradient is that of the very
numbers that the head sees: rounded to float32 where it computes in float32.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from gcp.heads import Head
from gcp.ops.numerics import PRECISIONS
from gcp.studies.fidelity.methods import BRANCH, ComparedHead
from gcp.studies.fidelity.oracle import ExactGradient, by_digits, by_svd, upstream
from gcp.studies.fidelity.spectra import FeatureMaps, quartiles

SMALL = 16  # channels up to which 50 digits are affordable
ORACLES = {True: "50 digits", False: "float64"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """Of one map. Relative Frobenius norms; NaN where a ratio has no meaning, inf where a result is not finite.

    Attributes:
        error: of the gradient with respect to the features, against the exact one.
        cosine: between the two; NaN for a gradient that is zero.
        norm_ratio: its norm over that of the exact one.
        forward_error: of the output.
        rounding: of the gradient in float32, against the same method in float64; NaN for float64.
    """

    error: float
    cosine: float
    norm_ratio: float
    forward_error: float
    rounding: float


def run(head: Head, maps: Tensor, g: Tensor) -> list[ExactGradient]:
    """Output and gradient of a head for each map of (B, d, H, W), in float64 whatever it computes in."""
    features = maps.clone().requires_grad_()
    output = head(features)
    (gradient,) = torch.autograd.grad(output, features, g.to(output.dtype).expand_as(output))
    pairs = zip(output.detach().double(), gradient.double(), strict=True)
    return [ExactGradient(*pair) for pair in pairs]


def outcomes(method: ComparedHead, maps: Tensor, g: Tensor, side: str, precision: str) -> list[ExactGradient]:
    """`run` of a method. A published form takes one map at a time: its overflow check looks at a whole batch, in which
    one bad map would spoil the others.
    """
    head = method.build(maps.shape[1], side, precision)
    parts = maps.split(1) if method.published else (maps,)
    return [outcome for part in parts for outcome in run(head, part, g)]


def relative(ours: Tensor, reference: Tensor) -> float:
    """Norm of the difference over that of the reference: inf if not finite, NaN for 0 over 0."""
    if not bool(torch.isfinite(ours).all()):
        return math.inf
    difference, norm = float((ours - reference).norm()), float(reference.norm())
    return difference / norm if norm > 0 else math.nan if difference == 0 else math.inf


def cosine(ours: Tensor, reference: Tensor) -> float:
    """Cosine of the angle; NaN if either is zero or not finite."""
    lengths = float(ours.norm()) * float(reference.norm())
    return float((ours * reference).sum()) / lengths if 0 < lengths < math.inf else math.nan


def read(ours: ExactGradient, exact: ExactGradient, finer: ExactGradient | None) -> Reading:
    """One map: what a head gave, what is right, and what the head gives in float64."""
    norm = float(exact.gradient.norm())
    length = float(ours.gradient.norm())
    return Reading(
        error=relative(ours.gradient, exact.gradient),
        cosine=cosine(ours.gradient, exact.gradient),
        norm_ratio=(length / norm if math.isfinite(length) else math.inf) if norm > 0 else math.nan,
        forward_error=relative(ours.output, exact.output),
        rounding=relative(ours.gradient, finer.gradient) if finer else math.nan,
    )


def measure(
    setting: FeatureMaps,
    methods: Sequence[ComparedHead],
    sides: Sequence[str],
    precisions: Sequence[str],
    seed: int = 0,
) -> Iterable[Row]:
    """Rows of one setting: each method on each side in each precision, medians and quartiles over the maps.

    The upstream gradient is the same for all. Yields one row at a time.
    """
    g = upstream(setting.channels, seed + 1)
    for precision in precisions:
        maps = setting.maps.to(PRECISIONS[precision])
        truths: dict[bool, list[ExactGradient]] = {}
        for method in methods:
            scaled = method.head == BRANCH
            if scaled not in truths:
                oracle = by_digits if setting.channels <= SMALL else by_svd
                truths[scaled] = [oracle(x.double(), g, scaled) for x in maps]
            for side in method.sides(sides):
                readings = _readings(method, maps, g, side, precision, truths[scaled])
                yield _row(setting, method, side, precision, readings)


def _readings(
    method: ComparedHead, maps: Tensor, g: Tensor, side: str, precision: str, truths: list[ExactGradient]
) -> list[Reading]:
    ours = outcomes(method, maps, g, side, precision)
    rounded = precision == "float32"
    finer = outcomes(method, maps.double(), g, side, "float64") if rounded else [None] * len(maps)
    return [read(*each) for each in zip(ours, truths, finer, strict=True)]


def _row(setting: FeatureMaps, method: ComparedHead, side: str, precision: str, readings: list[Reading]) -> Row:
    row: Row = {
        "source": setting.source,
        "head": method.head,
        "form": method.form,
        "precision": precision,
        "side": side,
        "condition": setting.condition,
        "gap": setting.gap,
        "rank_deficit": setting.rank_deficit,
        "samples": setting.samples,
        "channels": setting.channels,
    }
    for field in fields(Reading):
        low, middle, high = quartiles(getattr(reading, field.name) for reading in readings)
        row |= {field.name: middle, f"{field.name}_low": low, f"{field.name}_high": high}
    overflow = sum(math.isinf(reading.error) for reading in readings)
    return row | {"overflow": overflow, "draws": len(readings), "oracle": ORACLES[setting.channels <= SMALL]}


def natural(row: Row) -> bool:
    """Whether the row is of the smaller side, which heads take by themselves (of the only one, for published)."""
    return row["form"] == "published" or (row["side"] == "sample") == (row["channels"] >= row["samples"])


def shown(rows: Sequence[Row]) -> list[Row]:
    """One row for each method, precision and setting: that of the natural side, else of the side there is."""
    chosen: dict[tuple, Row] = {}
    for row in rows:
        key = tuple(row[name] for name in KEY)
        if key not in chosen or natural(row):
            chosen[key] = row
    return list(chosen.values())


KEY = ("source", "head", "form", "precision", "condition", "gap", "rank_deficit", "samples", "channels")
