"""`gcp doctor`: versions, devices and threads of this machine, and whether every head computes what it should here."""

import platform
from importlib import import_module
from importlib.util import find_spec
from math import nan

import torch
from torch import Tensor

from gcp.command import as_typed, install
from gcp.drawing.terminal import print_facts, print_table
from gcp.errors import GCPError, NonFiniteError, counted

USAGE = """\
What this machine has, and a test of every head on it, in seconds.

  gcp doctor

Prints versions, processor and GPUs, how CUDA decomposes matrices, and which optional packages are installed; then the
relative difference of each head, in float32 on the first GPU or else the CPU, from the same head in float64 on the CPU:
of its output and of its gradient. Exit code 1 where a head is wrong.
"""

# Extra -> a package of it.
EXTRAS = {"cuda": "cupy", "data": "datasets", "export": "onnx", "demo": "gradio"}
# Relative differences that float32 explains: the gradient of an iteration on a covariance of low rank loses most.
OUTPUT, GRADIENT = 1e-3, 5e-2
CHANNELS, SIDE = 12, 5


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    if {"-h", "--help"} & set(argv):
        print(as_typed(USAGE))
        return 0
    if argv:
        raise GCPError(f"unexpected {argv[0]!r}: doctor takes nothing; see --help.")
    print_facts("\n".join(f"{name:<12}{text}" for name, text in about().items()))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    what = f"float32 on {device} against float64 on the CPU"
    print()
    lines, rows = [f"{'head':<20}{'output':>10}{'gradient':>10}   {what}"], []
    for name, output, gradient in differences(device):
        fine = output <= OUTPUT and gradient <= GRADIENT  # not a number is not fine
        lines.append(f"{name:<20}{output:>10.0e}{gradient:>10.0e}{'' if fine else '   WRONG'}")
        rows.append([name, f"{output:.0e}", f"{gradient:.0e}", "" if fine else "WRONG"])
    wrong = [place for place, row in enumerate(rows) if row[-1]]
    print_table(["head", "output", "gradient", what], rows, "\n".join(lines), red=wrong)
    print(f"\n{counted(len(wrong), 'head')} wrong." if wrong else "\nEvery head computes what it should.")
    return int(bool(wrong))


def about() -> dict[str, str]:
    """Versions, devices, threads and optional packages, by what they are."""
    from gcp.engine.environment import describe_environment

    found = describe_environment(torch.device("cpu"))
    packages = ", ".join(f"{name} {version or 'missing'}" for name, version in found["packages"].items())
    cores = f"{counted(found['cores'], 'core')}, {counted(found['threads'], 'thread')}"
    lines = {"gcp": f"{import_module('gcp').__version__}, Python {platform.python_version()}", "packages": packages}
    lines |= {"processor": f"{found['processor']}, {cores}", "GPU": _cards()}
    if torch.cuda.is_available():
        lines |= _cuda()
    absent = [extra for extra, package in EXTRAS.items() if find_spec(package) is None]
    lines["extras"] = ", ".join(extra for extra in EXTRAS if extra not in absent) or "none"
    if absent:
        lines["not here"] = f"{', '.join(absent)}; {install(absent[0])}"
    return lines


def _cards() -> str:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return (
            f"none that torch can use (built for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'the CPU'})"
        )
    return ", ".join(f"{number}: {torch.cuda.get_device_name(number)}" for number in range(count))


def _cuda() -> dict[str, str]:
    from gcp.kernels.backend import BACKENDS, choose_backend
    from gcp.kernels.launch import available

    return {
        "kernels": "by CuPy" if available() else "torch operations take their place",
        "eigensolver": BACKENDS[choose_backend(None, 256, 64)],
    }


def differences(device: torch.device) -> list[tuple[str, float, float]]:
    """Each head with the relative differences of its output and its gradient on `device` in float32 from those of
    float64 on the CPU.
    """
    from gcp.heads import list_heads

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, CHANNELS, SIDE, SIDE, generator=generator, dtype=torch.float64).relu()
    return [(str(entry), *_compare(str(entry), x, device)) for entry in list_heads()]


def _compare(name: str, x: Tensor, device: torch.device) -> tuple[float, float]:
    wanted = _evaluate(name, x)
    try:
        found = _evaluate(name, x.to(device, torch.float32))
    except NonFiniteError:
        return nan, nan
    output, gradient = (
        float(torch.linalg.norm(one.cpu().double() - other) / torch.linalg.norm(other))
        for one, other in zip(found, wanted, strict=True)
    )
    return output, gradient


def _evaluate(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    from gcp.heads import create_head

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a head may draw weights, or signs
        head = create_head(name, CHANNELS).to(x).eval()
    x = x.clone().requires_grad_()
    out = head(x)
    G = torch.cos(torch.arange(out.numel(), dtype=torch.float64)).reshape(out.shape).to(out)
    return out.detach(), torch.autograd.grad(out, x, G)[0]
