"""The numbers of docs/heads.md: what every head costs and how large its output is, and how far a gradient is the same.

    python scripts/measure_heads.py cost --json cost.json
    python scripts/measure_heads.py agreement --json agreement.json

`cost`: forward and backward of every head in turns on the same features (behind a ReLU, batch 4, 256 channels), over
that of `average` and of `svd_pade`, each the least of all rounds; and the norm of the output over that of the average.

`agreement`: the relative difference of the gradient with respect to the features between the two sides in float64, and
between float32 and float64 on the smaller side, by rule and solver: for log-uniform spectra of growing condition
number, and for pairs of eigenvalues with a shrinking gap.
"""

import sys
from typing import Any

import benchmarking
import torch
from torch import Tensor

from gcp.functional import covariance_sqrt
from gcp.gradients import RULES
from gcp.heads import create_head, list_heads
from gcp.kernels.cpu import set_threads
from gcp.measure import spread, take_turns
from gcp.solvers import SOLVERS
from gcp.studies.fidelity.features import relu_features
from gcp.studies.fidelity.spectra import log_uniform, maps_with, pairs

MAPS = (7, 14)
BATCH, CHANNELS = 4, 256
CONDITIONS = [10.0**k for k in range(2, 11)]
GAPS = [10.0**-k for k in (4, 6, 8, 10, 12)] + [0.0]
NARROW, SIDE = 24, 7  # channels and map of `agreement`; more samples than channels, so that all eigenvalues are there
GAP_CONDITION = 100.0
SAME = 1e-3  # of a gradient: what counts as the same in the printed table

Row = dict[str, Any]


def cost(arguments: Any) -> list[Row]:
    """One row for each head and map."""
    rows = []
    names = [str(entry) for entry in list_heads()]
    for size in MAPS:
        x = relu_features(BATCH, CHANNELS, size, torch.float32, arguments.seed)
        heads = {name: create_head(name, CHANNELS) for name in names}
        laps = {name: _lap(head, x) for name, head in heads.items()}
        times = take_turns(laps, arguments.warmup, arguments.repeats, benchmarking.bar())
        average = heads["average"](x).norm(dim=1)
        base = {name: min(times[name]["both"]) for name in names}  # the least is not lengthened by other processes
        for name in names:
            with torch.no_grad():
                length = float((heads[name].eval()(x).norm(dim=1) / average).mean())
            rows.append(
                {
                    "map": size,
                    "head": name,
                    "milliseconds": spread(times[name]["both"]),
                    "over_average": base[name] / base["average"],
                    "over_svd_pade": base[name] / base["svd_pade"],
                    "norm_over_average": length,
                }
            )
            print(
                f"{size}x{size}  {name:18} {base[name]:8.1f} ms  {base[name] / base['average']:7.0f} of average  "
                f"{base[name] / base['svd_pade']:6.2f} of svd_pade  |f| {length:8.3g}",
                flush=True,
            )
    return rows


def _lap(head: torch.nn.Module, x: Tensor) -> Any:
    def call() -> None:
        leaf = x.clone().requires_grad_()
        head(leaf).sum().backward()

    return lambda: {"both": benchmarking.clocked(call, x.device)[1]}


def agreement(arguments: Any) -> list[Row]:
    """One row for each rule or solver and spectrum."""
    methods = [{"rule": str(rule)} for rule in RULES]
    methods += [{"solver": str(solver)} for solver in SOLVERS if solver != "eig"]
    rows = []
    for method in methods:
        name = next(iter(method.values()))
        for kind, points in (("condition", CONDITIONS), ("gap", GAPS)):
            for point in points:
                row = {"method": name, kind: point} | _differences(_maps(kind, point, arguments.seed), method)
                rows.append(row)
        print(f"{name:16} {_range(rows, name)}", flush=True)
    return rows


def _maps(kind: str, point: float, seed: int) -> Tensor:
    eigenvalues = log_uniform(NARROW, point) if kind == "condition" else pairs(NARROW, GAP_CONDITION, point)
    return maps_with(eigenvalues, NARROW, SIDE, 3, seed)


def _differences(x: Tensor, method: dict[str, str]) -> dict[str, float]:
    one, other = (_gradient(x, side=side, **method) for side in ("channel", "sample"))
    low = _gradient(x.float(), precision="float32", **method)
    exact = _gradient(x.float().double(), **method)
    return {"sides": _relative(other, one), "precisions": _relative(low, exact)}


def _gradient(x: Tensor, **options: Any) -> Tensor:
    x = x.clone().requires_grad_()
    Q = covariance_sqrt(x, **options)
    G = torch.randn(Q.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.autograd.grad(Q, x, G.to(Q.dtype))[0].double()


def _relative(got: Tensor, expected: Tensor) -> float:
    """Largest over the maps; infinite where it is not finite."""
    errors = (got - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    return float(errors.nan_to_num(torch.inf).max())


def _range(rows: list[Row], name: str) -> str:
    """How far the two kinds of differences stay below `SAME`."""
    told = []
    for what in ("sides", "precisions"):
        for kind, better in (("condition", max), ("gap", min)):
            own = [row for row in rows if row["method"] == name and kind in row]
            reached = []
            for row in own:
                if row[what] >= SAME:
                    break
                reached.append(row[kind])
            told.append(f"{what} {kind} {better(reached):.0e}" if reached else f"{what} {kind} none")
    return ", ".join(told)


COMMANDS = {"cost": cost, "agreement": agreement}


def main() -> None:
    """Measure, print, and write all numbers."""
    made = benchmarking.parser(
        "Cost of every head, and how far a gradient is the same on both sides and in both precisions.",
        "python scripts/measure_heads.py agreement",
        repeats=7,
        warmup=1,
    )
    made.add_argument("command", choices=COMMANDS)
    arguments = made.parse_args()
    set_threads(arguments.threads or 1)
    rows = COMMANDS[arguments.command](arguments)
    if arguments.json:
        benchmarking.save(
            arguments.json, {"command": sys.argv[1:], "machine": benchmarking.machine(arguments.device), "rows": rows}
        )


if __name__ == "__main__":
    main()
