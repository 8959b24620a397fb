"""Time of orthogonal layers, forward and backward: ours, torch's, geotorch's, a sequential product, a dense matrix.

Four tasks, all with normal weights and columns of one seed:

* `apply`: W X of a square orthogonal W (d, d) and m columns;
* `build`: a weight (d / 8, d) with orthonormal rows, by itself;
* `logdet`: log |det W| and W^(-1) Y of a square W (d, d) and m columns;
* `spectral`: W X of a square W (d, d) whose spectral norm is kept, and the norms of 200 hard steps.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import benchmarking
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import orthogonal as torch_orthogonal
from torch.nn.utils.parametrizations import spectral_norm as torch_spectral_norm

from gcp.errors import OptionError, UnknownNameError
from gcp.kernels.cpu import set_threads
from gcp.layers import Orthogonal, SVDLinear, householder_apply, orthogonal, spectral_norm
from gcp.measure import spread, take_turns

OURS = "gcp"
TASKS = ("apply", "build", "logdet", "spectral")
PHASES = ("forward", "backward", "both")
STEPS = 200
FAR = 100.0  # of the targets, in standard deviations: the gradient is large and learning rate 1 too much
BATCH = 32
WIDTH = 0.9  # of the box: singular values within 0.1 and 1.9


def _linear(d: int) -> nn.Linear:
    return nn.Linear(d, d, bias=False)


# name -> layer (d, d) and the norm that it promises
NORMED: dict[str, Callable[[int], tuple[nn.Module, float]]] = {
    OURS: lambda d: (spectral_norm(_linear(d), "bound"), 1.0),
    "exact": lambda d: (spectral_norm(_linear(d), "exact"), 1.0),
    "power_1": lambda d: (spectral_norm(_linear(d), "power", 1), 1.0),
    "power_5": lambda d: (spectral_norm(_linear(d), "power", 5), 1.0),
    "torch_power_1": lambda d: (torch_spectral_norm(_linear(d)), 1.0),
    "svd_box": lambda d: (SVDLinear(d, d, bias=False, spectrum="box", width=WIDTH), 1 + WIDTH),
    "dense": lambda d: (_linear(d), 1.0),
}


def hardest(name: str, d: int, seed: int = 0) -> dict[str, float]:
    """True norms of the weight in evaluation over what was promised, in float64, of SGD at learning rate 1.

    Returns:
        `greatest` over the steps (the first twenty, then every tenth) and `last`; NaN where the weight is not finite.
    """
    torch.manual_seed(seed)
    layer, promised = NORMED[name](d)
    x, target = torch.randn(BATCH, d), FAR * torch.randn(BATCH, d)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    norms = []
    for step in range(STEPS):
        optimizer.zero_grad()
        functional.mse_loss(layer(x), target).backward()
        optimizer.step()
        if step < 20 or step % 10 == 9:
            norms.append(_norm(layer.eval()) / promised)
            layer.train()
    return {"greatest": max(norms), "last": norms[-1]}


@torch.no_grad()
def _norm(layer: nn.Module) -> float:
    W: torch.Tensor = layer.weight.double()  # type: ignore[operator,union-attr,assignment]
    return float(torch.linalg.svdvals(W)[0]) if W.isfinite().all() else float("nan")


CPU = torch.device("cpu")
NARROW = 8  # a weight of the task `build` has one row for so many columns


@dataclass(frozen=True)
class TimedCall:
    """Something to time: `call` gives a tuple of outputs, `leaves` are what they are differentiated by."""

    call: Callable[[], tuple[Tensor, ...]]
    leaves: tuple[Tensor, ...]


@dataclass(frozen=True)
class Sizes:
    """Sizes, device and seed of a task; d dimensions, m columns, `block` for our own methods (None: chosen)."""

    d: int
    m: int
    device: torch.device = CPU
    seed: int = 0
    block: int | None = None

    def normal(self, *shape: int, offset: int = 0) -> Tensor:
        """A leaf of standard normal numbers, the same for every method."""
        generator = torch.Generator().manual_seed(self.seed + offset)
        return torch.randn(*shape, generator=generator).to(self.device).requires_grad_()

    def rows(self) -> Tensor:
        """Columns as rows of a batch (m, d)."""
        return self.normal(self.m, self.d, offset=1)


def _module(layer: nn.Module, place: Sizes) -> TimedCall:
    layer, x = layer.to(place.device), place.rows()
    return TimedCall(lambda: (layer(x),), (x, *layer.parameters()))


def _function(act: Callable[[Tensor, Tensor], Tensor], place: Sizes) -> TimedCall:
    V, x = place.normal(place.d, place.d), place.rows()
    return TimedCall(lambda: (act(V, x.mT).mT,), (x, V))


def sequential(V: Tensor, X: Tensor) -> Tensor:
    """H_1 ... H_k X by one rank-one update for each reflector; the lengths are taken out of the loop."""
    units = V * (2**0.5 / torch.linalg.vector_norm(V, dim=1, keepdim=True))
    for u in reversed(units.unbind()):
        X = torch.addr(X, u, u @ X, alpha=-1)
    return X


def householder_product(V: Tensor, X: Tensor) -> Tensor:
    """The same kind of product by `torch.linalg.householder_product`, whose i-th reflector is (0, ..., 0, 1, a)."""
    A = V.mT.tril(-1)
    return torch.linalg.householder_product(A, 2 / (1 + A.square().sum(0))) @ X


def _weight(parametrised: Callable[[nn.Linear], nn.Module], place: Sizes) -> TimedCall:
    layer = parametrised(nn.Linear(place.d, max(place.d // NARROW, 1), bias=False)).to(place.device)
    return TimedCall(lambda: (cast(Tensor, layer.weight),), tuple(layer.parameters()))


def _layer(parametrised: Callable[[nn.Linear], nn.Module], place: Sizes) -> TimedCall:
    return _module(parametrised(nn.Linear(place.d, place.d, bias=False)), place)


def _torch(name: str) -> Callable[[nn.Linear], nn.Module]:
    return lambda linear: torch_orthogonal(linear, "weight", name)


def _geotorch(linear: nn.Linear) -> nn.Module:
    import geotorch

    geotorch.orthogonal(linear, "weight")
    return linear


def _svd_logdet(place: Sizes) -> TimedCall:
    layer = SVDLinear(place.d, place.d, bias=False, block=place.block).to(place.device)
    y = place.rows()
    return TimedCall(lambda: (layer.slogdet()[1], layer.inverse(y)), (y, *layer.parameters()))


def _dense_logdet(place: Sizes) -> TimedCall:
    W, y = place.normal(place.d, place.d), place.rows()
    return TimedCall(lambda: (torch.linalg.slogdet(W)[1], torch.linalg.solve(W, y.mT).mT), (y, W))


def _normed(name: str, place: Sizes) -> TimedCall:
    return _module(NORMED[name](place.d)[0], place)


Prepare = Callable[[Sizes], TimedCall]


METHODS: dict[str, dict[str, Prepare]] = {
    "apply": {
        OURS: lambda place: _module(Orthogonal(place.d, block=place.block), place),
        "gcp_rebuild": lambda place: _function(lambda V, X: householder_apply(V, X, place.block, rebuild=True), place),
        "gcp_triangular": lambda place: _module(Orthogonal(place.d, method="triangular"), place),
        "gcp_cayley": lambda place: _module(Orthogonal(place.d, method="cayley"), place),
        "sequential": partial(_function, sequential),
        "householder_product": partial(_function, householder_product),
        "torch_householder": partial(_layer, _torch("householder")),
        "torch_cayley": partial(_layer, _torch("cayley")),
        "torch_matrix_exp": partial(_layer, _torch("matrix_exp")),
        "geotorch": partial(_layer, _geotorch),
        "dense": lambda place: _module(nn.Linear(place.d, place.d, bias=False), place),
    },
    "build": {
        OURS: lambda place: _weight(lambda linear: orthogonal(linear, block=place.block), place),
        "torch_householder": partial(_weight, _torch("householder")),
        "torch_cayley": partial(_weight, _torch("cayley")),
        "torch_matrix_exp": partial(_weight, _torch("matrix_exp")),
        "geotorch": partial(_weight, _geotorch),
    },
    "logdet": {OURS: _svd_logdet, "dense": _dense_logdet},
    "spectral": {name: partial(_normed, name) for name in NORMED},
}


def select(task: str, names: list[str] | None) -> list[str]:
    """Methods of a task among `names` (None: all), ours first; geotorch only where it is installed."""
    installed = find_spec("geotorch") is not None
    if names and "geotorch" in names and not installed:
        raise OptionError("geotorch is not installed: pip install geotorch, or leave it out of --methods.")
    known = [name for name in METHODS[task] if installed or name != "geotorch"]
    return [name for name in known if names is None or name in names or name == OURS]


def compare(
    task: str,
    methods: list[str],
    place: Sizes,
    blocks: list[int] | None = None,
    repeats: int = 7,
    warmup: int = 1,
    watch: Callable[[range], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Forward and backward times of each method at one size.

    Returns:
        Plain values: `task`, `d`, `columns` and `rows`, each with `method`, `time_ms` (spread of each phase) and
        `ratio`, its median over ours by phase: above 1 ours is faster; of `spectral` also `norm`, see
        `hardest`.
    """
    prepared: dict[str, TimedCall] = {name: METHODS[task][name](place) for name in methods}
    for block in (blocks or []) if task != "spectral" else []:
        prepared[f"{OURS}:{block}"] = METHODS[task][OURS](replace(place, block=block))
    laps = {name: _lap(work, place) for name, work in prepared.items()}
    times = take_turns(laps, warmup, repeats, watch)
    spreads = {name: {phase: spread(times[name][phase]) for phase in PHASES} for name in laps}
    rows = [
        {
            "method": name,
            "time_ms": spreads[name],
            "ratio": {p: spreads[name][p]["median"] / spreads[OURS][p]["median"] for p in PHASES},
        }
        for name in laps
    ]
    if task == "spectral":
        rows = [row | {"norm": hardest(str(row["method"]), place.d, place.seed)} for row in rows]
    return {"task": task, "d": place.d, "columns": place.m, "rows": rows}


def _lap(work: TimedCall, place: Sizes) -> Callable[[], dict[str, float]]:
    generator = torch.Generator().manual_seed(place.seed + 2)
    upstream = [torch.randn(out.shape, generator=generator).to(out) for out in work.call()]

    def lap() -> dict[str, float]:
        outputs, forward = benchmarking.clocked(work.call, place.device)
        _, backward = benchmarking.clocked(
            lambda: torch.autograd.grad(outputs, work.leaves, upstream, allow_unused=True), place.device
        )
        return {"forward": forward, "backward": backward, "both": forward + backward}

    return lap


COLUMNS = "x ours: forward +\n          backward over that of gcp; above 1 gcp is faster"


def table(point: dict[str, Any]) -> str:
    """The times at one size."""
    size = f"({max(point['d'] // 8, 1)}, {point['d']})" if point["task"] == "build" else f"d {point['d']}"
    title = f"{point['task']}, {size}" + ("" if point["task"] == "build" else f", {point['columns']} columns")
    lines = [title, f"{'method':<22}{'forward':>11}{'backward':>11}{'both':>11}{'least':>11}{'x ours':>9}"]
    normed = point["task"] == "spectral"
    lines[-1] += f"{'greatest':>12}{'last norm':>12}" if normed else ""
    for row in point["rows"]:
        times = row["time_ms"]
        cells = [times[phase]["median"] for phase in ("forward", "backward", "both")] + [times["both"]["min"]]
        norms = [f"{row['norm'][key]:>12.6g}" for key in ("greatest", "last")] if normed else []
        line = f"{row['method']:<22}" + "".join(f"{c:>11.2f}" for c in cells) + f"{row['ratio']['both']:>9.2f}"
        lines.append(line + "".join(norms))
    return "\n".join(lines)


def draw_times(points: list[dict[str, Any]], path: str | Path) -> None:
    """Forward + backward medians over d, a panel for each task, both axes logarithmic."""
    from gcp.drawing.figure import SERIES, write_figure

    tasks = list(dict.fromkeys(point["task"] for point in points))
    names = list(dict.fromkeys(row["method"] for point in points for row in point["rows"]))
    looks = {name: (SERIES[i % len(SERIES)], ("-", "--", ":")[i // len(SERIES)]) for i, name in enumerate(names)}
    columns = min(2, len(tasks))
    lines = -(-len(tasks) // columns)

    def paint(figure: Any) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

        grid = figure.subplots(lines, columns, sharex=True, squeeze=False).ravel()
        for axes in grid[len(tasks) :]:
            axes.set_visible(False)
        for axes, task in zip(grid, tasks, strict=False):
            rows = [(point["d"], row) for point in points if point["task"] == task for row in point["rows"]]
            for name, (colour, ls) in looks.items():
                pairs = sorted((d, row["time_ms"]["both"]["median"]) for d, row in rows if row["method"] == name)
                if pairs:
                    width = 2.0 if name == OURS else 1.0
                    axes.plot(*zip(*pairs, strict=True), marker="o", markersize=3, color=colour, ls=ls, lw=width)
            axes.set_title(task, loc="left")
            sizes = sorted({d for d, _ in rows})
            axes.set(xscale="log", yscale="log")
            axes.set_xticks(sizes, [str(d) for d in sizes])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.grid()
        figure.supxlabel("d")
        figure.supylabel("forward + backward, ms")
        keys = [figure.axes[0].plot([], [], color=colour, ls=ls, label=name)[0] for name, (colour, ls) in looks.items()]
        figure.legend(handles=keys, loc="outside lower left", ncols=3)

    write_figure(
        path, 1.3 + 2.0 * lines, paint, f"Time of forward and backward over d of {len(names)} methods, by task"
    )


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = benchmarking.parser(
        "Time of orthogonal layers, forward and backward, against what else there is.\n\n"
        + (__doc__ or "").partition("\n\n")[2],
        "python scripts/benchmark_layers.py --tasks apply --dim 512 784 1024 --plot layers.png",
        repeats=7,
        warmup=1,
    )
    known = list(dict.fromkeys(name for methods in METHODS.values() for name in methods))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, help=f"({' '.join(TASKS)})")
    text = f"of {' '.join(known)}; ours is always there (all that are installed)"
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=text)
    benchmarking.several(parser, "--dim", [64, 256, 512, 1024], "dimensions d")
    benchmarking.several(parser, "--columns", [32], "of X and Y")
    benchmarking.several(parser, "--blocks", [], "our method also with so many reflectors in a block")
    parser.add_argument("--plot", type=benchmarking.target, metavar="FILE", help="forward + backward over d")
    parser.set_defaults(threads=1)
    arguments = parser.parse_args(argv)
    for name in arguments.methods or []:
        if name not in known:
            raise UnknownNameError("method", name, known)
    set_threads(arguments.threads)
    print(benchmarking.heading(arguments, "methods", COLUMNS))
    points: list[dict[str, Any]] = []
    for task in arguments.tasks:
        methods = select(task, arguments.methods)
        for d in arguments.dim:
            for m in arguments.columns if task != "build" else arguments.columns[:1]:
                sizes, rounds = Sizes(d, m, arguments.device, arguments.seed), (arguments.repeats, arguments.warmup)
                points.append(compare(task, methods, sizes, arguments.blocks, *rounds, benchmarking.bar()))
                print(f"\n{table(points[-1])}", flush=True)
    settings, environment = benchmarking.settings_of(arguments), benchmarking.describe_environment(arguments.device)
    benchmarking.save(arguments.json, {"settings": settings, "environment": environment, "points": points})
    if arguments.plot is not None:
        draw_times(points, arguments.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
