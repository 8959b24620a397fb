"""Time, memory and error of pooling heads: one table for each feature map (batch, dim, map, map).

The heads that take a matrix root, whatever their solver and rule, are compared with one reference: `svd_exact` on the
same features in float64. What an approximation gives away (five Newton-Schulz steps, a truncated gradient) is therefore
part of its error. Any other head is compared with itself in float64.
"""

import argparse
import math
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import benchmarking
import torch
from torch import Tensor

from gcp.errors import GCPError
from gcp.heads import HEADS, Head, create_head, head_options
from gcp.heads.root import CovarianceRoot
from gcp.kernels import use_eigensolver
from gcp.kernels.cpu import set_threads
from gcp.measure import peak_bytes, saved_bytes, spread, take_turns, timed
from gcp.ops.covariance import covariance
from gcp.ops.eigenvalues import conditions, covariance_eigenvalues
from gcp.studies.fidelity.features import DESCRIPTION, relu_features
from gcp.studies.fidelity.methods import root_heads, select_heads

MIB = 2**20
WIDTH = 120  # letters of a line
DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True)
class Shape:
    """A feature map (batch, dim, map, map)."""

    batch: int
    dim: int
    map: int


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
        """The head without a reduction. An argument that it does not take, or that names its default, is left out."""
        takes = (*HEADS[self.head].obj.takes, *head_options(self.head))
        chosen = {key: value for key, value in asdict(self).items() if value not in (None, "auto", "full")}
        common = {key: value for key, value in chosen.items() if key in takes}
        return create_head(self.head, channels, **common)


def published(head: str, precision: str | None = None) -> Variant:
    """The baseline of a head: the published form of its rule on the channel side.

    For a head that has none it is that of `svd_original`.
    """
    own = Variant(head, "channel", "published", precision)
    try:
        own.build(2)
    except GCPError:  # of this rule none was published
        return replace(own, head=FALLBACK)
    return own if "form" in HEADS[head].obj.takes else replace(own, head=FALLBACK)


class Bench:
    """One feature map and one upstream gradient per output size, the same for every head."""

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device, seed: int):
        self.shape, self.device, self.seed = shape, device, seed
        x = relu_features(shape.batch, shape.dim, shape.map, dtype, seed)
        self.condition = float(conditions(covariance_eigenvalues(x)).median())
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

    Returns:
        Plain values: the shape, `condition`, `unit_ms` (one `eigh` of the covariances of the features),
        `full_rank_unit_ms` (the same at full rank), and `rows` with `time_ms`, `eigh_units` (of `unit_ms`),
        `memory_mib` and `error` (None where not finite); with `baseline` also the same of the published form
        under `baseline`, and `ratio` (ours / published).
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


COLUMNS = {
    "fwd ms": 8,
    "bwd ms": 8,
    "f+b ms": 8,
    "bwd/eigh": 9,
    "f+b/eigh": 9,
    "saved MiB": 10,
    "peak MiB": 9,
    "out err": 8,
    "grad err": 9,
}


RATIOS = {"fwd x": 6, "bwd x": 6, "f+b x": 6, "peak x": 7}


def table(point: dict[str, Any]) -> str:
    """The measurements at one shape."""
    unit, full = point["unit_ms"], point["full_rank_unit_ms"]
    title = (
        f"batch {point['batch']}, d {point['dim']}, map {point['map']}x{point['map']}: condition number "
        f"{point['condition']:.2g}, one eigh {unit['median']:.1f} ms ({unit['min']:.1f} to {unit['max']:.1f})"
        f", of full rank {full['median']:.1f} ms"
    )
    rows = point["rows"]
    columns = COLUMNS | RATIOS if rows and "ratio" in rows[0] else COLUMNS
    widths = list(columns.values())
    lines = [title, _line("head", list(columns), widths)]
    lines += [_line(_name(row), _cells(row), widths) for row in rows]
    return "\n".join(lines)


def _line(head: str, cells: list[str], widths: list[int]) -> str:
    return f"{head:<17}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _name(row: dict[str, Any]) -> str:
    return row["head"] + ("*" if row["reference"] == row["head"] != "svd_exact" else "")


def _cells(row: dict[str, Any]) -> list[str]:
    times, units, memory = row["time_ms"], row["eigh_units"], row["memory_mib"]
    cells = [_figure(times[phase]["median"]) for phase in ("forward", "backward", "both")]
    cells += [_figure(units[phase]) for phase in ("backward", "both")]
    cells += [_figure(memory[key]) for key in ("saved", "peak")]
    cells += [_error(row["error"][key]) for key in ("output", "gradient")]
    if "ratio" in row:
        cells += [f"{row['ratio'][key]:.2f}" for key in ("forward", "backward", "both", "peak")]
    return cells


def _figure(value: float) -> str:
    """About three significant digits, never more than three decimals."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _error(value: float | None) -> str:
    return "not fin." if value is None else f"{value:.1e}"


def notes_of(arguments: argparse.Namespace) -> dict[str, str]:
    """What the figures mean."""
    notes = {
        "machine": benchmarking.machine(arguments.device),
        "features": f"{arguments.dtype}, {DESCRIPTION}",
        "reference": "svd_exact on the same features in float64; for heads with * the head itself in float64. Relative "
        "Frobenius norm: an approximation by design (newton_schulz, svd_topn ...) shows its error",
        "columns": f"fwd, bwd, f+b: medians of {arguments.repeats} rounds in which the heads take turns, ms; /eigh: in "
        "units of one torch.linalg.eigh of the float64 covariances of the same features, same rounds; saved: kept for "
        "the backward, with the features; peak: allocated by f+b besides the features",
    }
    if arguments.baseline:
        notes["baseline"] = (
            "columns with x: ours / published form of the same rule on the channel side, same rounds; for heads "
            "without a published form ours / that of svd_original. Below 1 ours needs less"
        )
    return notes


def draw_times(points: list[dict[str, Any]], machine: str, path: Path | str) -> None:
    """Forward + backward of each head as bars, a panel for each shape, beside one eigendecomposition."""
    from gcp.drawing.figure import LIGHT, write_figure

    def paint(figure: Any) -> None:
        grid = figure.subplots(len(points), 1, sharex=True, squeeze=False)[:, 0]
        for axes, point in zip(grid, points, strict=True):
            times = [row["time_ms"]["both"] for row in point["rows"]]
            medians = [time["median"] for time in times]
            ends = [[time["median"] - time["min"] for time in times], [time["max"] - time["median"] for time in times]]
            axes.barh([row["head"] for row in point["rows"]], medians, height=0.62, color=LIGHT["blue"])
            axes.errorbar(medians, range(len(times)), xerr=ends, fmt="none", ecolor=LIGHT["ink"], elinewidth=0.8)
            unit = axes.axvline(point["unit_ms"]["median"], color=LIGHT["red"], label="one eigh of the covariances")
            axes.invert_yaxis()
            axes.set_title(f"{point['map']}x{point['map']} map, d {point['dim']}, batch {point['batch']}", loc="left")
            axes.tick_params(length=0, labelbottom=True)
            axes.grid(axis="x")
            axes.spines["left"].set_visible(False)
        figure.supxlabel(f"forward + backward, ms: median, least to greatest\n{machine}")
        figure.legend(handles=[unit], loc="outside upper left")

    rows = sum(len(point["rows"]) for point in points)
    alt = f"Time of forward and backward of {rows} heads and maps as bars, each map beside one eigendecomposition"
    write_figure(path, 0.9 + 0.5 * len(points) + 0.2 * rows, paint, alt)


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = benchmarking.parser(
        "Time, memory and error of pooling heads: one table for each feature map (batch, dim, map, map).",
        "python scripts/benchmark_heads.py --heads svd_pade newton_schulz polar_express --map 7 14 --baseline",
        repeats=7,
        warmup=2,
    )
    text = f"{benchmarking.HEADS} (every head that takes a matrix root)"
    parser.add_argument("--heads", nargs="+", metavar="NAME", help=text)
    benchmarking.several(parser, "--batch", [16], "feature maps at once")
    benchmarking.several(parser, "--dim", [256], "channels")
    benchmarking.several(parser, "--map", [7, 14, 28], "side of the map")
    benchmarking.one_of(parser, "--dtype", DTYPES, "of the features")
    benchmarking.one_of(parser, "--side", ("auto", "channel", "sample"), "for the heads that take it")
    benchmarking.one_of(
        parser, "--precision", benchmarking.PRECISIONS, "of the computation, for the heads that take it"
    )
    benchmarking.one_of(parser, "--products", benchmarking.PRODUCTS, "rounding inside the iterations, likewise")
    benchmarking.one_of(parser, "--eigensolver", benchmarking.SOLVERS, "which library decomposes on CUDA")
    text = "also the published form of each rule, and every figure as a ratio to it"
    parser.add_argument("--baseline", action="store_true", help=text)
    parser.add_argument("--plot", type=benchmarking.target, metavar="FILE", help="the times as png, svg or pdf")
    arguments = parser.parse_args(argv)
    if arguments.threads is not None:
        set_threads(arguments.threads)
    arguments.heads = select_heads(arguments.heads) if arguments.heads else root_heads()
    precision = None if arguments.precision == "default" else arguments.precision
    variants = [Variant(head, arguments.side, None, precision, arguments.products) for head in arguments.heads]
    notes = notes_of(arguments)
    for key, text in notes.items():
        print(textwrap.fill(f"{key:<11}{text}", WIDTH, subsequent_indent=" " * 11))
    points: list[dict[str, Any]] = []
    for shape in (Shape(*sizes) for sizes in product(arguments.batch, arguments.dim, arguments.map)):
        with use_eigensolver(arguments.eigensolver):
            point = compare(
                variants,
                shape,
                getattr(torch, arguments.dtype),
                arguments.device,
                arguments.repeats,
                arguments.warmup,
                arguments.seed,
                arguments.baseline,
                watch=benchmarking.bar(),
            )
        points.append(point)
        print(f"\n{table(point)}", flush=True)
    environment = benchmarking.describe_environment(arguments.device)
    settings = benchmarking.settings_of(arguments)
    benchmarking.save(
        arguments.json, {"settings": settings, "environment": environment, "notes": notes, "points": points}
    )
    if arguments.plot is not None:
        draw_times(points, notes["machine"], arguments.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
