"""Heads against each other at one shape: time, memory, and error against a float64 reference.

The heads that take a matrix root, whatever their solver and rule, are compared with one reference:
`svd_exact` on the same features in float64. What an approximation gives away (five Newton-Schulz steps, a
truncated gradient) is therefore part of its error. Any other head is compared with itself in float64.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gcp.engine.condition import condition_numbers
from gcp.heads import HEADS, Head, create_head, head_options
from gcp.heads.root import CovarianceRoot
from gcp.measure import peak_bytes, saved_bytes, spread, take_turns, timed
from gcp.ops.covariance import covariance
from gcp.studies.fidelity.features import relu_features

MIB = 2**20
EXACT = "svd_exact"
FALLBACK = "svd_original"  # the baseline of heads that were never published with a factor K
PHASES = ("forward", "backward", "both")


@dataclass(frozen=True)
class Variant:
    """A head with its common arguments; None leaves one at the head's default."""

    head: str
    side: str | None = None
    form: str | None = None
    precision: str | None = None
    products: str | None = None

    def build(self, channels: int) -> Head:
        """The head without a reduction. An argument that it does not take is left out."""
        takes = (*HEADS[self.head].obj.takes, *head_options(self.head))
        common = {key: value for key, value in asdict(self).items() if key in takes and value is not None}
        return create_head(self.head, channels, **common)


@dataclass(frozen=True)
class Shape:
    """A feature map (batch, dim, map, map)."""

    batch: int
    dim: int
    map: int


def published(head: str, precision: str | None = None) -> Variant:
    """The baseline of a head: the published form of its rule on the channel side.

    For a head that has none it is that of `svd_original`.
    """
    own = "form" in HEADS[head].obj.takes and head != EXACT
    return Variant(head if own else FALLBACK, "channel", "published", precision)


class Bench:
    """One feature map and one upstream gradient per output size, the same for every head."""

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device, seed: int):
        self.shape, self.device, self.seed = shape, device, seed
        x = relu_features(shape.batch, shape.dim, shape.map, dtype, seed)
        self.condition = float(condition_numbers(x).median())
        self.x = x.to(device).requires_grad_()
        self._references: dict[str | None, tuple[Tensor, Tensor]] = {}

    def head(self, variant: Variant) -> Head:
        """The head on the device of the features."""
        return variant.build(self.shape.dim).to(self.device)

    def upstream(self, out: Tensor) -> Tensor:
        """A standard normal gradient in the shape and dtype of an output."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        return torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)

    def lap(self, head: Head) -> Callable[[], dict[str, float]]:
        """A call that times forward, backward alone, and both in a row, in milliseconds."""
        x, device = self.x, self.device
        G = self.upstream(head(x).detach())

        def apart() -> dict[str, float]:
            out, forward = timed(lambda: head(x), device)
            backward = timed(lambda: torch.autograd.grad(out, x, G, retain_graph=True), device)[1]
            return {"forward": forward, "backward": backward}

        def lap() -> dict[str, float]:
            return apart() | {"both": timed(lambda: torch.autograd.grad(head(x), x, G), device)[1]}

        return lap

    def memory(self, head: Head) -> dict[str, float]:
        """MiB saved for the backward, and at the peak of forward and backward besides the features."""
        x = self.x
        G = self.upstream(head(x).detach())
        peak = peak_bytes(lambda: torch.autograd.grad(head(x), x, G), self.device)
        return {"saved": saved_bytes(lambda: head(x)) / MIB, "peak": peak / MIB}

    def error(self, head: Head, name: str) -> dict[str, float | None]:
        """Relative Frobenius errors of output and feature gradient over the batch; None where not finite."""
        key = EXACT if isinstance(head, CovarianceRoot) else name
        if key not in self._references:
            reference = self.head(Variant(key)).double()
            self._references[key] = self._evaluate(reference, self.x.detach().double())
        pairs = zip(self._evaluate(head, self.x.detach()), self._references[key], strict=True)
        output, gradient = (_relative(ours, theirs) for ours, theirs in pairs)
        return {"output": output, "gradient": gradient}

    def _evaluate(self, head: Head, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.requires_grad_()
        out = head(x)
        return out.detach(), torch.autograd.grad(out, x, self.upstream(out.detach()))[0]

    def units(self) -> Callable[[], dict[str, float]]:
        """A call that times `torch.linalg.eigh` of float64 covariances: of these features, and of full rank.

        A covariance of few samples decomposes several times faster than one of full rank.
        """
        shape = self.shape
        positions = math.ceil((4 * shape.dim) ** 0.5)
        many = relu_features(shape.batch, shape.dim, positions, torch.float64, self.seed).to(self.device)
        own, full = covariance(self.x.detach(), torch.float64), covariance(many)
        return lambda: {
            "own": timed(lambda: torch.linalg.eigh(own), self.device)[1],
            "full": timed(lambda: torch.linalg.eigh(full), self.device)[1],
        }


def _relative(ours: Tensor, reference: Tensor) -> float | None:
    norm = torch.linalg.vector_norm(reference)
    value = float(torch.linalg.vector_norm(ours.double() - reference) / norm)
    return value if math.isfinite(value) else None


def compare(
    variants: list[Variant],
    shape: Shape,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    repeats: int = 7,
    warmup: int = 2,
    seed: int = 0,
    baseline: bool = False,
    watch: Callable[[range], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Measure heads on one feature map, in turns.

    Args:
        variants: the heads, each once.
        shape: of the features (`gcp.studies.fidelity.features`).
        dtype: of the features.
        device: where everything runs.
        repeats: timed rounds; the medians are of these.
        warmup: rounds before them.
        seed: of the features and the upstream gradient.
        baseline: measure the published form of each rule too, and give every figure as a ratio to it.
        watch: wraps the timed rounds, for a progress bar.

    Returns:
        Plain values: the shape, `condition`, `unit_ms` (one `eigh` of the covariances of the features),
        `full_rank_unit_ms` (the same at full rank), and `rows` with `time_ms`, `eigh_units` (of `unit_ms`),
        `memory_mib` and `error` (None where not finite); with `baseline` also the same of the published form
        under `baseline`, and `ratio` (ours / published).

    Raises:
        OptionError: an argument that a head does not take.
        ShapeError: a map with one position.
    """
    bench = Bench(shape, dtype, torch.device(device), seed)
    pairs = [(one, published(one.head, one.precision) if baseline else None) for one in variants]
    measured = dict.fromkeys(variant for pair in pairs for variant in pair if variant is not None)
    heads = {variant: bench.head(variant) for variant in measured}
    figures: dict[Variant, dict[str, Any]] = {
        # errors first: on CUDA that call also makes the workspaces that belong to no single head
        variant: {"error": bench.error(head, variant.head), "memory_mib": bench.memory(head)}
        for variant, head in heads.items()
    }
    laps: dict[Variant | None, Callable[[], dict[str, float]]] = {None: bench.units()}
    laps.update((variant, bench.lap(head)) for variant, head in heads.items())
    times = take_turns(laps, warmup, repeats, watch)
    unit, full = spread(times[None]["own"]), spread(times[None]["full"])
    for variant in heads:
        spreads = {phase: spread(values) for phase, values in times[variant].items()}
        units = {phase: spreads[phase]["median"] / unit["median"] for phase in PHASES}
        figures[variant] |= {"time_ms": spreads, "eigh_units": units}
    rows = [_row(variant, base, heads[variant], figures) for variant, base in pairs]
    condition = bench.condition
    return {**asdict(shape), "condition": condition, "unit_ms": unit, "full_rank_unit_ms": full, "rows": rows}


def _row(variant: Variant, base: Variant | None, head: Head, figures: dict[Variant, dict]) -> dict[str, Any]:
    ours = figures[variant]
    reference = EXACT if isinstance(head, CovarianceRoot) else variant.head
    row = {**asdict(variant), "reference": reference, **ours}
    if base is not None:
        theirs = figures[base]
        row["baseline"] = {**asdict(base), **theirs}
        row["ratio"] = {
            phase: ours["time_ms"][phase]["median"] / theirs["time_ms"][phase]["median"] for phase in PHASES
        } | {key: ours["memory_mib"][key] / theirs["memory_mib"][key] for key in ("saved", "peak")}
    return row
