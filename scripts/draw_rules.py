"""A picture of the documentation: what every backward rule puts in the place of the exact gradient.

Left, the weight that the backward pass gives to a pair of eigenvalues a >= b, over the exact one, against their gap
1 - b/a. The rules are evaluated as in training (`gcp.gradients`), and beside them the published factor in float32,
where the difference in its denominator cancels. Right, what the heads make of the spectrum of a covariance with
condition number 1e4, each over its greatest value; average pooling sees none of it.
"""

import argparse
from pathlib import Path
from typing import Any

import benchmarking
import torch

from gcp.drawing.figure import LIGHT, write_figure
from gcp.gradients import create_rule

RULES = {
    "svd_pade, svd_exact": ("pade", {}, LIGHT["ink"]),
    "svd_taylor": ("taylor", {"degree": 100}, LIGHT["blue"]),
    "svd_pi": ("power_iteration", {"iterations": 19}, LIGHT["red"]),
    "svd_trunc, threshold 50": ("truncate", {"threshold": 50.0}, LIGHT["green"]),
}
FUNCTIONS = {
    "covariance": lambda values: values,
    "power 0.75": lambda values: values**0.75,
    "root: svd_*, polar_express": torch.sqrt,
    "newton_schulz, 5 steps": lambda values: _newton_schulz(values, 5),
}
COLOURS = ("mute", "gold", "ink", "violet")


def ratios(gaps: torch.Tensor) -> dict[str, torch.Tensor]:
    """The weight of each rule over the exact one for the eigenvalues 1 and 1 - gap."""
    large, small = torch.ones_like(gaps), 1 - gaps
    found = {}
    for label, (name, options, _) in RULES.items():
        ratio = create_rule(name, **options).ratio(large, small)
        found[label] = torch.ones_like(gaps) if ratio is None else ratio.expand_as(gaps)
    return found


def published(gaps: torch.Tensor) -> torch.Tensor:
    """The factor 1 / (a - b) times the difference of the roots in float32, over the exact weight."""
    a, b = torch.ones_like(gaps).float(), (1 - gaps).float()
    folded = (a.sqrt() - b.sqrt()) / (a - b)
    return folded.double() * (a.double().sqrt() + b.double().sqrt())


def _newton_schulz(values: torch.Tensor, steps: int) -> torch.Tensor:
    """The eigenvalues of `newton_schulz`: the coupled iteration on a diagonal matrix of unit trace."""
    norm = values.sum()
    Y, Z = values / norm, torch.ones_like(values)
    for _ in range(steps):
        T = (3 - Z * Y) / 2
        Y, Z = Y * T, T * Z
    return Y * norm.sqrt()


def paint(figure: Any) -> None:
    """Both panels."""
    left, right = figure.subplots(1, 2)
    gaps = torch.logspace(-9, 0, 400, dtype=torch.float64)
    fine = published(gaps)
    left.plot(gaps, fine.clamp(-1, 3), color=LIGHT["gold"], linewidth=0.8, label="published factor in float32")
    for label, ratio in ratios(gaps).items():
        left.plot(gaps, ratio, color=RULES[label][2], label=label)
    left.set(
        xscale="log", ylim=(-0.1, 2.3), xlabel="gap of two eigenvalues, 1 - b/a", title="gradient over the exact one"
    )
    left.set_xticks([1e-9, 1e-6, 1e-3, 1], ["1e-9", "1e-6", "1e-3", "1"])
    values = torch.logspace(0, -4, 64, dtype=torch.float64)
    for (label, function), colour in zip(FUNCTIONS.items(), COLOURS, strict=True):
        taken = function(values)
        right.plot(range(1, 65), taken / taken[0], color=LIGHT[colour], label=label)
    right.set(yscale="log", xlabel="eigenvalue, by rank", title="what a head makes of the spectrum")
    right.set_yticks([1, 1e-2, 1e-4], ["1", "1e-2", "1e-4"])
    for axes in (left, right):
        axes.minorticks_off()
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22))


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("docs/rules.png"), help="(docs/rules.png)")
    out = parser.parse_args(argv).out
    write_figure(out, 3.6, paint, "Gradient of each backward rule over the exact one, and spectra that heads take")
    print(out)
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
