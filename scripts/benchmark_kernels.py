"""The GPU path by numbers: the eigensolvers against each other, each kernel against torch operations, and the goals."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from typing import Any

import benchmarking
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gcp.errors import DeviceError
from gcp.functions import FUNCTIONS, SpectralFunction, create_function
from gcp.gradients import RULES, Rule, create_rule
from gcp.heads import create_head
from gcp.kernels import eigh, function_core, pack, spectral_core, without_kernels
from gcp.kernels import spread as unpack
from gcp.kernels.backend import BACKENDS, has_backend
from gcp.kernels.launch import available
from gcp.measure import peak_bytes, spread, take_turns
from gcp.ops.covariance import centre, covariance, gram
from gcp.studies.fidelity.features import relu_features

MIB = 2**20
PARTS = ("all", "solvers", "kernels", "goals")


def spectrum(kind: str, n: int, batch: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Symmetric matrices (B, n, n): eigenvalues over six decades (`decaying`), or a millionth apart (`close`)."""
    generator = torch.Generator().manual_seed(n)
    U = torch.linalg.qr(torch.randn(batch, n, n, generator=generator, dtype=torch.float64))[0]
    values = torch.logspace(0, -6, n, dtype=torch.float64)
    if kind == "close":
        values = 1 + 1e-6 * torch.arange(n, dtype=torch.float64)
    P = U * values @ U.mT
    return ((P + P.mT) / 2).to(device, dtype)


def compare_solvers(
    sizes: list[int], batches: list[int], device: torch.device, repeats: int, warmup: int
) -> Iterator[dict[str, Any]]:
    """Every route on every size, batch, dtype and spectrum: milliseconds, errors relative to |P|, MiB at the peak.

    The peak is of torch's memory; CuPy's own, where its solver works, is not in it.
    """
    routes = [name for name in BACKENDS if name == "torch" or (device.type == "cuda" and has_backend(name))]
    for n, batch, dtype, kind in product(sizes, batches, (torch.float32, torch.float64), ("decaying", "close")):
        P = spectrum(kind, n, batch, dtype, device)
        calls: dict[str, Callable[[], Any]] = {name: partial(eigh, P, name) for name in routes}
        times = take_turns({name: benchmarking.lap(call, device) for name, call in calls.items()}, warmup, repeats)
        for name, call in calls.items():
            eigenvalues, V = call()
            residual = torch.linalg.matrix_norm(V * eigenvalues[:, None, :] @ V.mT - P) / torch.linalg.matrix_norm(P)
            eye = torch.eye(n, dtype=dtype, device=device)
            row = {"n": n, "batch": batch, "dtype": str(dtype).removeprefix("torch."), "spectrum": kind, "route": name}
            row |= {"ms": spread(times[name]["ms"]), "residual": float(residual.amax())}
            row |= {"orthogonality": float((V.mT @ V - eye).abs().amax()), "peak_mib": peak_bytes(call, device) / MIB}
            yield row


def compare_kernels(n: int, batch: int, device: torch.device, repeats: int, warmup: int) -> Iterator[dict[str, Any]]:
    """Every kernel against its fallback: microseconds, GB/s of the traffic that cannot be avoided, peak memory.

    Times are of the GPU alone, launched ahead.
    """
    for dtype in (torch.float32, torch.float64):
        S = spectrum("decaying", n, batch, dtype, device)
        kept = torch.rand(batch, n, dtype=dtype, device=device)
        triangle = pack(S)
        calls: dict[str, Callable[[], Any]] = {
            f"spectral_core {name}": partial(_core, create_rule(str(name)), kept, S) for name in RULES
        }
        for name in FUNCTIONS:
            calls[f"function_core {name}"] = partial(_function_core, create_function(str(name)), kept, S)
        calls |= {"triangle_pack": partial(pack, S), "triangle_spread": partial(unpack, triangle, n)}
        for name, call in calls.items():
            traffic = 2 * S.nbytes if "core" in name else S.nbytes + triangle.nbytes
            yield _against_fallback(name, dtype, call, traffic, device, repeats, warmup)


def _core(rule: Rule, kept: Tensor, S: Tensor) -> Tensor:
    return spectral_core(rule, kept, S)[0]


def _function_core(function: SpectralFunction, kept: Tensor, S: Tensor) -> Tensor:
    return function_core(function, 1e-3, create_rule("exact"), kept, S, False, S.shape[1])[0]


def _against_fallback(
    name: str, dtype: torch.dtype, call: Callable, traffic: int, device: torch.device, repeats: int, warmup: int
) -> dict[str, Any]:
    def fallback() -> Any:
        with without_kernels():
            return call()

    laps = {
        "kernel": benchmarking.lap(call, device, ahead=True),
        "fallback": benchmarking.lap(fallback, device, ahead=True),
    }
    times = take_turns(laps, warmup, repeats)
    kernel, other = (spread(times[which]["ms"])["median"] for which in ("kernel", "fallback"))
    peaks = peak_bytes(call, device), peak_bytes(fallback, device)
    return {
        "kernel": name,
        "dtype": str(dtype).removeprefix("torch."),
        "us": 1000 * kernel,
        "fallback_us": 1000 * other,
        "gb_per_s": traffic / kernel / 1e6,
        "peak_over_fallback": peaks[0] / max(1, peaks[1]),
    }


class _Products(TorchDispatchMode):
    """Shapes of the batched products inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[torch.Size, torch.Size]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name()
        if name.startswith(("aten::bmm", "aten::baddbmm")):
            A, B = args[1:3] if "baddbmm" in name else args[:2]
            self.shapes.append((A.shape, B.shape))
        return function(*args, **(kwargs or {}))


def goals(
    map_size: int, d: int, batch: int, device: torch.device, repeats: int, warmup: int, seed: int = 0
) -> list[dict[str, Any]]:
    """What the GPU path is meant to reach at one shape: `what`, `value`, `goal`, and whether less or more is meant.

    Times are of forward + backward, in turns. "on the CPU": the published form with features and decomposition there.
    """
    x = relu_features(batch, d, map_size, torch.float32, seed).to(device).requires_grad_()

    def call(name: str, on: Tensor = x, **options: Any) -> Callable[[], Any]:
        head = create_head(name, d, **options).to(on.device)
        G = torch.ones_like(head(on).detach())
        return lambda: torch.autograd.grad(head(on), on, G)

    few = map_size * map_size <= d
    K = gram(centre(x.detach(), torch.float64)) if few else covariance(x.detach(), torch.float64)
    there = x.detach().cpu().requires_grad_()
    calls = {
        "svd_pade": call("svd_pade"),
        "newton_schulz": call("newton_schulz"),
        "polar_express": call("polar_express"),
        "solver": lambda: eigh(K),
        "loop": lambda: [torch.linalg.eigh(A) for A in K],
        "published": call("svd_pade", there, form="published"),
        "products": _products_of(call("polar_express"), x),
    }
    times = take_turns({name: benchmarking.lap(one, device) for name, one in calls.items()}, warmup, repeats)
    ms = {name: spread(measured["ms"])["median"] for name, measured in times.items()}
    looping = ms["svd_pade"] - ms["solver"] + ms["loop"]
    backward, memory = _backwards(x, d, device, repeats, warmup)
    return [
        {"what": "svd_pade over newton_schulz", "value": ms["svd_pade"] / ms["newton_schulz"], "at_most": 2},
        {"what": "published form on the CPU over svd_pade", "value": ms["published"] / ms["svd_pade"], "at_least": 100},
        {
            "what": "a solver for one matrix at a time over svd_pade",
            "value": looping / ms["svd_pade"],
            "at_least": 10,
        },
        {"what": "backward with torch fallbacks over that with kernels", "value": backward, "at_least": 3},
        {"what": "its memory with kernels over that with fallbacks", "value": memory, "at_most": 0.5},
        {
            "what": "polar_express over its products alone",
            "value": ms["polar_express"] / ms["products"],
            "at_most": 1.4,
        },
    ]


def _products_of(call: Callable[[], Any], x: Tensor) -> Callable[[], None]:
    """The batched products of a forward and backward, and nothing else, in float32."""
    with _Products() as watch, torch.autograd.set_multithreading_enabled(False):
        call()
    factors = [(torch.rand(A, device=x.device), torch.rand(B, device=x.device)) for A, B in watch.shapes]

    def products() -> None:
        for A, B in factors:
            torch.bmm(A, B)

    return products


def _backwards(x: Tensor, d: int, device: torch.device, repeats: int, warmup: int) -> tuple[float, float]:
    """Time of the backward with fallbacks over that with kernels, and memory the other way round."""
    head = create_head("svd_pade", d).to(device)
    out = head(x)
    G = torch.ones_like(out)

    def kernels() -> Any:
        return torch.autograd.grad(out, x, G, retain_graph=True)

    def fallbacks() -> Any:
        with without_kernels():
            return kernels()

    times = take_turns(
        {"kernels": benchmarking.lap(kernels, device), "fallbacks": benchmarking.lap(fallbacks, device)},
        warmup,
        repeats,
    )
    fast, slow = (spread(times[name]["ms"])["median"] for name in ("kernels", "fallbacks"))
    return slow / fast, peak_bytes(kernels, device) / max(1, peak_bytes(fallbacks, device))


def show(rows: Iterable[dict[str, Any]], line: Any) -> list[dict[str, Any]]:
    """Print each row of a table as it is measured, and hand all of them on."""
    print()
    shown = []
    for row in rows:
        print(line(row), flush=True)
        shown.append(row)
    return shown


def solver_line(row: dict[str, Any]) -> str:
    """One decomposition."""
    return (
        f"{row['n']:>4} x{row['batch']:<4} {row['dtype']:<8} {row['spectrum']:<9} {row['route']:<9}"
        f"{row['ms']['median']:>10.3f} ms   residual {row['residual']:.1e}   orthogonality "
        f"{row['orthogonality']:.1e}   peak {row['peak_mib']:.0f} MiB"
    )


def kernel_line(row: dict[str, Any]) -> str:
    """One kernel and its fallback."""
    return (
        f"{row['kernel']:<30} {row['dtype']:<8}{row['us']:>9.0f} us{row['gb_per_s']:>8.0f} GB/s   fallback "
        f"{row['fallback_us']:>7.0f} us, {row['fallback_us'] / row['us']:.1f} times as long; "
        f"memory {row['peak_over_fallback']:.2f} of its"
    )


def goal_line(row: dict[str, Any]) -> str:
    """One goal."""
    least, most = row.get("at_least"), row.get("at_most")
    reached = row["value"] >= least if least is not None else row["value"] <= most
    goal = f"at least {least}" if least is not None else f"at most {most}"
    return f"{row['what']:<52}{row['value']:>9.2f}   goal: {goal:<13} {'reached' if reached else 'MISSED'}"


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = benchmarking.parser(
        "The GPU path by numbers: the eigensolvers, each kernel against torch operations, and the goals.",
        "python scripts/benchmark_kernels.py --only goals --map 7",
        repeats=20,
        warmup=3,
        device="cuda",
    )
    benchmarking.one_of(parser, "--only", PARTS, "what is measured; on the CPU solvers")
    benchmarking.several(parser, "--sizes", [32, 49, 64, 128, 196, 256], "rows of the matrices to decompose")
    benchmarking.several(parser, "--batches", [10, 64, 128, 256], "matrices at once")
    for flag, default in (("--dim", 256), ("--batch", 128), ("--map", 28)):
        text = f"of the kernels and the goals ({default})"
        parser.add_argument(flag, type=benchmarking.whole(2), default=default, metavar="N", help=text)
    parser.add_argument("--rehearse", action="store_true", help="kernels and goals on the CPU too, where none counts")
    arguments = parser.parse_args(argv)
    device, rounds = arguments.device, (arguments.repeats, arguments.warmup)
    if arguments.only != "solvers" and device.type != "cuda" and not arguments.rehearse:
        raise DeviceError("kernels and goals are of a GPU; type --device cuda, or --only solvers.")
    kernels = "kernels by CuPy" if device.type == "cuda" and available() else "torch operations"
    print(f"{benchmarking.machine(device)}, CUDA {torch.version.cuda}, {kernels}", flush=True)
    result: dict[str, Any] = {"environment": benchmarking.describe_environment(device), "kernels": kernels}
    if arguments.only in ("all", "solvers"):
        result["solvers"] = show(compare_solvers(arguments.sizes, arguments.batches, device, *rounds), solver_line)
    if arguments.only in ("all", "kernels"):
        result["fallbacks"] = show(compare_kernels(arguments.dim, arguments.batch, device, *rounds), kernel_line)
    if arguments.only in ("all", "goals"):
        result["goals"] = show(goals(arguments.map, arguments.dim, arguments.batch, device, *rounds), goal_line)
    benchmarking.save(arguments.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
