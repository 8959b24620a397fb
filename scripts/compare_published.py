"""Show by numbers where the published code differs from its formulas.

    python scripts/compare_published.py [TOPIC ...]

The published pipeline is imitated step by step: a float32 centring matrix, an SVD (whose singular values are the
absolute eigenvalues), a clamp at machine epsilon, the factor K, everything else in float64.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import benchmarking
import torch
from torch import Tensor

from gcp.errors import UnknownNameError
from gcp.functional import covariance_sqrt
from gcp.gradients.base import PublishedDifference
from gcp.kernels.triangle import pack
from gcp.ops.numerics import sym

Result = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Finding:
    """One line of evidence."""

    topic: str
    what: str
    value: float


def features(channels: int, side: int, seed: int = 0) -> Tensor:
    """ReLU features (2, channels, side, side) float64, exactly representable in float32."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=generator) / channels**0.5
    noise = torch.randn(2, channels, side * side, generator=generator)
    return torch.relu(mixing @ noise + 0.2).double().reshape(2, channels, side, side)


def _error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def _upstream(x: Tensor) -> Tensor:
    d = x.shape[1]
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(x), d * (d + 1) // 2, generator=generator, dtype=torch.float64)


def gradient(x: Tensor, **root: object) -> Result:
    """Output and feature gradient of the covariance root for a fixed random upstream gradient."""
    x = x.clone().requires_grad_()
    output = pack(covariance_sqrt(x, **root))  # type: ignore[arg-type]
    output.backward(_upstream(x).to(output.dtype))
    return output.detach(), x.grad


def imitation(x: Tensor, centring: torch.dtype) -> Result:
    """The published `svd_original`, its centring matrix built in the given dtype."""
    X = x.flatten(2)
    d, M = X.shape[1:]
    centre = (torch.eye(M, dtype=centring) / M - torch.ones(M, M, dtype=centring) / M / M).double()
    _, singular, Vh = torch.linalg.svd(X @ centre @ X.mT)
    clamped = singular.clamp(min=torch.finfo(torch.float64).eps)
    G = X.new_zeros(len(x), d, d)
    rows, columns = torch.triu_indices(d, d)
    G[:, rows, columns] = _upstream(x)
    dP = PublishedDifference().gradient(X, Vh.mT, clamped, sym(G))
    Q = (Vh.mT * clamped.sqrt()[:, None]) @ Vh
    return pack(Q), (2 * dP @ X @ centre).reshape(x.shape)


def power_iteration() -> list[Finding]:
    """The published SVD-PI multiplies its gradient by I - V V^T."""
    topic = "svd_pi passes no gradient"
    x = features(16, 8)
    Xc = (x - x.mean((2, 3), keepdim=True)).flatten(2)
    _, V = torch.linalg.eigh(Xc @ Xc.mT / 64)
    leftover = torch.eye(16, dtype=V.dtype) - V @ V.mT
    _, folded = gradient(x, rule="power_iteration")
    return [
        Finding(topic, "norm of I - V V^T, by which the published gradient is multiplied", float(leftover.norm())),
        Finding(topic, "norm of the gradient of 19 deflated power iterations (ours)", float(folded.norm())),
    ]


def pade() -> list[Finding]:
    """The Pade approximant of 1/(1 - x) is 1/(1 - x)."""
    topic = "svd_pade is the exact gradient"
    x = features(32, 8)
    _, exact = gradient(x)
    return [
        Finding(topic, "folded form against exact", _error(gradient(x, rule="pade")[1], exact)),
        Finding(
            topic, "published coefficients against exact", _error(gradient(x, rule="pade", form="published")[1], exact)
        ),
    ]


def centring() -> list[Finding]:
    """A float32 centring matrix in a float64 pipeline, on 25 samples for 48 channels."""
    topic = "centring matrix in float32"
    x = features(48, 5)
    output, slope = gradient(x)
    lossy, exact = imitation(x, torch.float32), imitation(x, torch.float64)
    return [
        Finding(topic, "output error with the published float32 matrix", _error(lossy[0], output)),
        Finding(topic, "gradient error with the published float32 matrix", _error(lossy[1], slope)),
        Finding(topic, "output error with the same matrix in float64", _error(exact[0], output)),
    ]


def clamping() -> list[Finding]:
    """Eigenvalues clamped at machine epsilon where the covariance is singular."""
    topic = "null eigenvalues clamped at epsilon"
    x = features(48, 5)
    output, slope = gradient(x)
    clamped = gradient(x, rule="original", form="published")
    return [
        Finding(topic, "output error of the clamp", _error(clamped[0], output)),
        Finding(topic, "gradient error of the clamp", _error(clamped[1], slope)),
    ]


def top_n() -> list[Finding]:
    """Dropped eigenvalues set to machine epsilon keep an exploding inverse root."""
    topic = "svd_topn explodes"
    x = features(32, 8)
    return [
        Finding(topic, "gradient norm, dropped eigenvalues at epsilon (published)", _norm(x, form="published")),
        Finding(topic, "gradient norm, dropped eigenvalues at zero (ours)", _norm(x, form="folded")),
    ]


def _norm(x: Tensor, form: str) -> float:
    return float(gradient(x, rule="top_n", form=form)[1].norm())


def conditioned(channels: int, side: int, condition: float) -> Tensor:
    """Features (2, channels, side, side) float64 whose covariance has a log-uniform spectrum; float32 values."""
    generator = torch.Generator().manual_seed(2)
    samples = torch.randn(2, side * side, channels, generator=generator, dtype=torch.float64)
    V, _ = torch.linalg.qr(samples - samples.mean(1, keepdim=True))
    U, _ = torch.linalg.qr(torch.randn(2, channels, channels, generator=generator, dtype=torch.float64))
    roots = torch.logspace(0, -0.5 * math.log10(condition), channels, dtype=torch.float64)
    return ((U * roots) @ V.mT * side).reshape(2, channels, side, side).float().double()


def precision() -> list[Finding]:
    """Gradient error of float32 against float64, by condition number of the covariance (d = 256, 28x28 map)."""
    topic = "gradient error in float32"
    findings = []
    for condition in (1e2, 1e3, 1e4, 1e5, 1e6):
        x = conditioned(256, 28, condition)
        _, exact = gradient(x)
        for solver in ("eig", "polar_express"):
            _, rounded = gradient(x.float(), solver=solver, precision="float32")
            findings.append(
                Finding(topic, f"{solver}, condition number {condition:.0e}", _error(rounded.double(), exact))
            )
    return findings


def products() -> list[Finding]:
    """Error of rounded products, by condition number (d = 128, 12x12 map); of newton_schulz against its own steps."""
    topic = "factors of products rounded to tf32 or bf16"
    variants = [
        ("newton_schulz", "tf32", {}),
        ("newton_schulz", "bf16", {}),
        ("polar_express", "tf32", {}),
        ("polar_express", "bf16", {"lower": 0.05, "steps": 4}),
    ]
    findings = []
    for condition in (1e2, 1e3, 1e4):  # at 1e5 polar_express diverges in tf32
        x = conditioned(128, 12, condition)
        exact = {"polar_express": gradient(x), "newton_schulz": gradient(x, solver="newton_schulz")}
        for solver, kind, options in variants:
            rounded = gradient(x.float(), solver=solver, products=kind, **options)
            for what, ours, theirs in zip(("output", "gradient"), rounded, exact[solver], strict=True):
                line = f"{solver} {kind}, {what}, condition number {condition:.0e}"
                findings.append(Finding(topic, line, _error(ours.double(), theirs)))
    return findings


TOPICS: dict[str, Callable[[], list[Finding]]] = {
    "power_iteration": power_iteration,
    "pade": pade,
    "centring": centring,
    "clamping": clamping,
    "top_n": top_n,
    "precision": precision,
    "products": products,
}


def main(argv: list[str]) -> int:
    """Print the findings of the named topics, or of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)} (all)")
    topics = parser.parse_args(argv).topics or list(TOPICS)
    for name in topics:
        if name not in TOPICS:
            raise UnknownNameError("topic", name, TOPICS)
    for name in topics:
        findings = TOPICS[name]()
        print(findings[0].topic)
        for finding in findings:
            print(f"  {finding.value:8.1e}  {finding.what}")
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
